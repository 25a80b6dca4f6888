// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Who uses a buffer, and the claim by which an open file is its only user.
 * A sysfs write counts as a user while it runs.
 */
#include <linux/fs.h>

#include "udb.h"

int udb_user_get(struct udb_buffer *buf)
{
	int ret = 0;

	spin_lock(&buf->lock);
	if (buf->claimant)
		ret = -EBUSY;
	else
		buf->users++;
	spin_unlock(&buf->lock);
	return ret;
}

/* file: the one that is released, NULL for a sysfs write. */
void udb_user_put(struct udb_buffer *buf, struct file *file)
{
	spin_lock(&buf->lock);
	buf->users--;
	if (file && buf->claimant == file)
		buf->claimant = NULL;
	spin_unlock(&buf->lock);
}

/* file: open for writing. */
int udb_claim(struct udb_buffer *buf, struct file *file, u64 flags)
{
	int ret;

	if (!(file->f_mode & FMODE_READ))
		return -EBADF;
	if (flags & ~U_DMA_BUF_CLAIM_ADOPT)
		return -EINVAL;
	ret = udb_check(buf);
	if (ret)
		return ret;

	spin_lock(&buf->lock);
	if (buf->claimant == file)
		goto out;
	/* One user: this file, so there is no claimant either. */
	if (buf->users != 1) {
		ret = -EBUSY;
		goto out;
	}
	if (buf->owner == U_DMA_BUF_OWNER_DEVICE && !(flags & U_DMA_BUF_CLAIM_ADOPT)) {
		ret = -EOWNERDEAD;
		goto out;
	}
	buf->owner = U_DMA_BUF_OWNER_CPU;
	buf->lent = 0;
	buf->claimant = file;
out:
	spin_unlock(&buf->lock);
	return ret;
}
