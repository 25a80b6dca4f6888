// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /proc/<pid>/fdinfo/<fd>: what an open file has of its buffer. Its claims, of which
 * there are few; of its mappings and exports, of which there may be many, the sum.
 */
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "udb.h"

void udb_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct udb_file *user = file->private_data;
	struct udb_buffer *buf = user->buf;
	struct udb_use *use;

	seq_printf(seq, "minor:\t%d\nsize:\t%zu\n", buf->minor, buf->size);
	spin_lock(&buf->lock);
	if (buf->claimant == user)
		seq_printf(seq, "claimed:\t0x0 %zu\n", buf->memory.size);
	list_for_each_entry(use, &buf->claims, link)
		if (use->user == user)
			seq_printf(seq, "claimed:\t0x%llx %llu\n", use->offset, use->size);
	seq_printf(seq, "in-use:\t%u %llu\n", user->uses, user->used_bytes);
	seq_printf(seq, "at-device:\t%llu\n", user->lent);
	spin_unlock(&buf->lock);
}
