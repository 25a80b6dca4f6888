// SPDX-License-Identifier: GPL-2.0 OR MIT
/* /proc/<pid>/fdinfo/<fd>: what an open file has of its buffer. */
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/seq_file.h>

#include "udb.h"

/* With buf->lock held, which nothing here lets go of. */
static void udb_show_use(struct seq_file *seq, const struct udb_use *use)
{
	seq_printf(seq, "%s:\t0x%llx %llu\n", use->claim ? "claimed" : "in-use",
		   use->offset, use->size);
}

void udb_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct udb_file *user = file->private_data;
	struct udb_buffer *buf = user->buf;
	struct udb_use *use;

	seq_printf(seq, "minor:\t%d\nsize:\t%zu\n", buf->minor, buf->size);
	spin_lock(&buf->lock);
	if (buf->claimant == user)
		seq_printf(seq, "claimed:\t0x0 %zu\n", buf->memory.size);
	list_for_each_entry(use, &buf->uses, link)
		if (use->user == user)
			udb_show_use(seq, use);
	seq_printf(seq, "at-device:\t%llu\n", user->lent);
	spin_unlock(&buf->lock);
}
