// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * An inode of its own for each buffer. Several device nodes may lead to one
 * buffer, each with an inode and so with a mapping; all open files use this
 * one's mapping instead, so that one call finds every VMA of the buffer.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "udb.h"

#define UDB_FS_MAGIC 0x55444246 /* "UDBF" */

static struct vfsmount *udb_mount;

static int udb_fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, UDB_FS_MAGIC) ? 0 : -ENOMEM;
}

/*
 * Without an owner: the mount is ours from init to exit and would otherwise
 * hold the module for ever.
 */
static struct file_system_type udb_fs_type = {
	.name = UDB_NAME,
	.init_fs_context = udb_fs_init_context,
	.kill_sb = kill_anon_super,
};

int udb_inode_init(void)
{
	udb_mount = kern_mount(&udb_fs_type);
	return PTR_ERR_OR_ZERO(udb_mount);
}

void udb_inode_exit(void)
{
	kern_unmount(udb_mount);
}

/* An inode, to be put with iput(), or an error pointer. */
struct inode *udb_inode_new(void)
{
	return alloc_anon_inode(udb_mount->mnt_sb);
}
