// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Who uses a buffer and what of it, the claims by which an open file is the only
 * user of the whole or of a range, and whose turn it is.
 *
 * A sysfs write counts as a user while it runs. Claims of ranges are made and
 * ended with buf->life held for writing, and syncs are waited for: who finds none,
 * between udb_enter() and udb_leave() or under rcu_read_lock(), has none to reckon
 * with until then.
 *
 * The device is the owner while claimants have bytes there (buf->lent), or
 * somebody without a claim to answer for it handed something over, or a claimant
 * ended with bytes there (buf->astray). Whoever has no claim makes the CPU the owner
 * by taking back any part; but that a claimant ended so (buf->orphaned) is forgotten
 * only when the next one vouches for the device, with ADOPT: nobody else knows which
 * bytes those were. Until then there is no claim without it, and the manager does not
 * delete the buffer.
 */
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "trace.h"
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

/* With buf->lock held. */
static void udb_range_end(struct udb_buffer *buf, struct udb_use *use)
{
	list_del(&use->link);
	WRITE_ONCE(buf->range_claims, buf->range_claims - 1);
}

static void udb_claims_end(struct udb_file *user)
{
	struct udb_buffer *buf = user->buf;
	struct udb_use *use, *next;

	down_write(&buf->life);
	spin_lock(&buf->lock);
	list_for_each_entry_safe(use, next, &buf->claims, link) {
		if (use->user != user)
			continue;
		udb_range_end(buf, use);
		kfree(use);
	}
	if (buf->claimant == user)
		buf->claimant = NULL;
	/* From here on removal does not write to the lent page. */
	if (udb_lent_parts(user) || user->lent) {
		buf->astray = true;
		WRITE_ONCE(buf->orphaned, true);
	}
	buf->lent -= user->lent;
	spin_unlock(&buf->lock);
	up_write(&buf->life);
	free_page((unsigned long)user->lent_page);
}

/* user: the file that is released, NULL for a sysfs write. */
void udb_user_put(struct udb_buffer *buf, struct udb_file *user)
{
	if (user && user->claims)
		udb_claims_end(user);
	spin_lock(&buf->lock);
	buf->users--;
	spin_unlock(&buf->lock);
}

/* May there be a claim, whatever else is in use? */
static int udb_claim_check(struct udb_buffer *buf, u64 flags)
{
	if (flags & U_DMA_BUF_CLAIM_ADOPT)
		return 0;
	return READ_ONCE(buf->astray) || READ_ONCE(buf->orphaned) ? -EOWNERDEAD : 0;
}

/* With buf->lock held. */
static int udb_claim_begin(struct udb_file *user, u64 flags)
{
	int ret = udb_claim_check(user->buf, flags);

	if (!ret) {
		WRITE_ONCE(user->buf->astray, false);
		WRITE_ONCE(user->buf->orphaned, false);
		user->claims = true;
	}
	return ret;
}

/* user: open for reading and writing. */
int udb_claim(struct udb_file *user, u64 flags)
{
	struct udb_buffer *buf = user->buf;
	int ret;

	if (flags & ~U_DMA_BUF_CLAIM_ADOPT)
		return -EINVAL;
	ret = udb_enter(buf);
	if (ret)
		return ret;

	spin_lock(&buf->lock);
	if (buf->claimant == user)
		goto out;
	/* One user: this file, so there is no claimant either. */
	ret = buf->users == 1 ? udb_claim_begin(user, flags) : -EBUSY;
	if (!ret) {
		buf->claimant = user;
		trace_u_dma_buf_claim(buf->minor, 0, PAGE_ALIGN(buf->size), flags);
	}
out:
	spin_unlock(&buf->lock);
	udb_leave(buf);
	return ret;
}

/* Is any of the range in the list, by another? With buf->lock held. */
static bool udb_has_other(const struct list_head *uses, struct udb_file *not_by, u64 offset,
			  u64 size)
{
	struct udb_use *use;

	list_for_each_entry(use, uses, link)
		if (use->user != not_by && use->offset < offset + size &&
		    offset < use->offset + use->size)
			return true;
	return false;
}

static bool udb_has_claimed(struct udb_file *user, u64 offset, u64 size)
{
	struct udb_use *use;

	if (user->buf->claimant == user)
		return true;
	list_for_each_entry(use, &user->buf->claims, link)
		if (use->user == user && use->offset <= offset &&
		    offset + size <= use->offset + use->size)
			return true;
	return false;
}

/* With buf->life held for writing: whoever is reading or writing has left. */
static int udb_range_begin(struct udb_buffer *buf, struct udb_use *use, u64 flags)
{
	int ret = 0;

	spin_lock(&buf->lock);
	if (buf->vaddr || udb_has_other(&buf->claims, use->user, use->offset, use->size) ||
	    udb_has_other(&buf->uses, use->user, use->offset, use->size))
		ret = -EBUSY;
	else if (buf->range_claims >= U_DMA_BUF_CLAIM_RANGES_MAX)
		ret = -ENOSPC;
	else
		ret = udb_claim_check(buf, flags);
	if (!ret) {
		list_add(&use->link, &buf->claims);
		WRITE_ONCE(buf->range_claims, buf->range_claims + 1);
	}
	spin_unlock(&buf->lock);
	if (ret)
		return ret;

	/* Who syncs without having seen it may be handing something over. */
	synchronize_rcu_expedited();
	spin_lock(&buf->lock);
	ret = udb_claim_begin(use->user, flags);
	if (ret)
		udb_range_end(buf, use);
	else
		trace_u_dma_buf_claim(buf->minor, use->offset, use->size, flags);
	spin_unlock(&buf->lock);
	return ret;
}

/* user: open for reading and writing. */
int udb_claim_range(struct udb_file *user, const struct u_dma_buf_claim_range *range)
{
	struct udb_buffer *buf = user->buf;
	u64 offset = range->offset, size = range->size;
	struct udb_use *use;
	bool has;
	int ret;

	if (range->flags & ~U_DMA_BUF_CLAIM_ADOPT || !size || !PAGE_ALIGNED(offset | size) ||
	    !udb_range_ok(buf->size, offset, size))
		return -EINVAL;
	use = kzalloc(sizeof(*use), GFP_KERNEL_ACCOUNT);
	if (!use)
		return -ENOMEM;
	use->user = user;
	use->offset = offset;
	use->size = size;

	down_write(&buf->life);
	spin_lock(&buf->lock);
	has = udb_has_claimed(user, offset, size);
	spin_unlock(&buf->lock);
	if (buf->gone)
		ret = -ENODEV;
	else
		ret = has ? 0 : udb_range_begin(buf, use, range->flags);
	up_write(&buf->life);
	if (ret || has)
		kfree(use);
	return ret;
}

/* For udb_check_claims(). */
int udb_find_claims(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size)
{
	bool claimed;

	spin_lock(&buf->lock);
	claimed = udb_has_other(&buf->claims, user, offset, size);
	spin_unlock(&buf->lock);
	return claimed ? -EBUSY : 0;
}

/* For a mapping or an export of a range inside the buffer. */
int udb_use_begin(struct udb_use *use, struct udb_file *user, u64 offset, u64 size)
{
	struct udb_buffer *buf = user->buf;
	int ret;

	use->user = user;
	use->offset = offset;
	use->size = size;
	refcount_set(&use->vmas, 1);

	ret = udb_enter(buf);
	if (ret)
		return ret;
	ret = udb_check_claims(buf, user, offset, size);
	if (!ret) {
		spin_lock(&buf->lock);
		list_add(&use->link, &buf->uses);
		user->uses++;
		user->used_bytes += size;
		spin_unlock(&buf->lock);
	}
	udb_leave(buf);
	return ret;
}

void udb_use_end(struct udb_use *use)
{
	struct udb_buffer *buf = use->user->buf;

	spin_lock(&buf->lock);
	list_del(&use->link);
	use->user->uses--;
	use->user->used_bytes -= use->size;
	spin_unlock(&buf->lock);
}

/*
 * Bytes are going to the device: remembered before they do, so that a user who
 * dies half way leaves the device as the owner.
 */
void udb_lend(struct udb_buffer *buf, struct udb_file *user, u64 size)
{
	if (!user || !user->claims) {
		WRITE_ONCE(buf->astray, true);
		return;
	}
	spin_lock(&buf->lock);
	size = min(size, U64_MAX - buf->lent);
	user->lent += size;
	buf->lent += size;
	spin_unlock(&buf->lock);
}

/* Bytes are back at the CPU. */
void udb_take_back(struct udb_buffer *buf, struct udb_file *user, u64 size)
{
	if (!user || !user->claims) {
		WRITE_ONCE(buf->astray, false);
		return;
	}
	spin_lock(&buf->lock);
	size = min(size, user->lent);
	user->lent -= size;
	buf->lent -= size;
	spin_unlock(&buf->lock);
}

u32 udb_owner(struct udb_buffer *buf)
{
	u32 owner;

	spin_lock(&buf->lock);
	owner = buf->astray || buf->lent ? U_DMA_BUF_OWNER_DEVICE : U_DMA_BUF_OWNER_CPU;
	spin_unlock(&buf->lock);
	return owner;
}
