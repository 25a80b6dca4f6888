// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The character devices: open, release, lseek, read, write and advice. */
#include <linux/cdev.h>
#include <linux/dma-direction.h>
#include <linux/fadvise.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "compat.h"
#include "udb.h"

static dev_t udb_first_devt;
static struct cdev *udb_cdev;

/* One more open file, of zeroed memory if it is to be and no other has it open. */
static int udb_open_user(struct udb_buffer *buf)
{
	int ret;

	ret = mutex_lock_killable(&buf->opening);
	if (ret)
		return ret;
	ret = udb_enter(buf);
	if (ret)
		goto out;
	ret = udb_user_get(buf);
	udb_leave(buf);
	if (ret)
		goto out;
	/* A kernel mapping is of a user, and stays. */
	if (buf->zero_between_users && buf->used && !buf->files && !READ_ONCE(buf->vaddr))
		ret = udb_memory_zero(buf);
	if (ret) {
		udb_user_put(buf, NULL);
		goto out;
	}
	buf->used = true;
	buf->files++;
out:
	mutex_unlock(&buf->opening);
	return ret;
}

static int udb_open(struct inode *inode, struct file *file)
{
	struct udb_buffer *buf = udb_minor_get(iminor(inode));
	struct udb_file *user;
	int ret;

	if (!buf)
		return -ENODEV;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	ret = user ? udb_open_user(buf) : -ENOMEM;
	if (ret)
		goto err_put;

	user->buf = buf;
	file->private_data = user;
	file->f_mapping = buf->inode->i_mapping;
	return 0;

err_put:
	kfree(user);
	udb_put(buf);
	return ret;
}

/* Mappings hold the file: none is left. */
static int udb_file_release(struct inode *inode, struct file *file)
{
	struct udb_file *user = file->private_data;

	/* Both before the next one opens it, or that would not find it zeroed. */
	mutex_lock(&user->buf->opening);
	udb_user_put(user->buf, user);
	user->buf->files--;
	mutex_unlock(&user->buf->opening);
	udb_put(user->buf);
	kfree(user);
	return 0;
}

static loff_t udb_llseek(struct file *file, loff_t offset, int whence)
{
	struct udb_file *user = file->private_data;

	return fixed_size_llseek(file, offset, whence, user->buf->size);
}

/* Does this file sync what it reads and writes? */
static bool udb_syncs_access(struct udb_buffer *buf, struct file *file)
{
	return (udb_settings(buf).mode & UDB_SYNC_MODE_ALWAYS) || (file->f_flags & O_DSYNC);
}

/* Copied under one udb_enter(). */
#define UDB_COPY_CHUNK SZ_256K
/* Attempts to fault user memory in that bring nothing before it counts as bad. */
#define UDB_COPY_TRIES 8

/* What can be copied without a page fault; with the buffer entered. */
static size_t udb_copy_chunk(struct udb_buffer *buf, size_t offset, struct iov_iter *iter,
			     size_t size, bool write)
{
	size_t len, got;
	void *start;

	start = udb_memory_map(&buf->memory, offset, &len);
	len = min(len, size);
	pagefault_disable();
	if (write)
		got = copy_from_iter(start, len, iter);
	else
		got = copy_to_iter(start, len, iter);
	pagefault_enable();
	if (write)
		udb_cache_used(buf);
	udb_memory_unmap(&buf->memory, offset, start);
	return got;
}

/*
 * Bytes that were copied, or an error. User memory is faulted in outside of
 * udb_enter(): whoever serves the fault may take his time, and removal would
 * wait for him.
 */
static ssize_t udb_copy(struct udb_file *user, size_t offset, struct iov_iter *iter,
			size_t size, bool write)
{
	struct udb_buffer *buf = user->buf;
	unsigned int tries = 0;
	size_t done = 0;
	int ret = 0;

	while (done < size) {
		/* Copies may give up words before memory that is bad: byte by byte. */
		size_t want = tries > 1 ? 1 : min_t(size_t, size - done, UDB_COPY_CHUNK);
		size_t got;

		ret = udb_enter(buf);
		if (ret)
			break;
		ret = udb_check_claims(buf, user, offset + done, want);
		got = ret ? 0 : udb_copy_chunk(buf, offset + done, iter, want, write);
		udb_leave(buf);
		if (ret)
			break;
		done += got;
		tries = got ? 0 : tries + 1;

		cond_resched();
		if (fatal_signal_pending(current))
			ret = -EINTR;
		else if (!got && (tries > UDB_COPY_TRIES || udb_fault_in(iter, want, write)))
			ret = -EFAULT;
		if (ret)
			break;
	}
	return done ?: ret;
}

static ssize_t udb_transfer(struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	enum dma_data_direction dir = write ? DMA_BIDIRECTIONAL : DMA_FROM_DEVICE;
	bool reader = !(iocb->ki_filp->f_mode & FMODE_WRITE);
	struct udb_file *user = iocb->ki_filp->private_data;
	struct udb_buffer *buf = user->buf;
	bool sync = udb_syncs_access(buf, iocb->ki_filp);
	size_t size = iov_iter_count(iter);
	loff_t pos = iocb->ki_pos;
	ssize_t done;
	int ret;

	if (pos >= buf->size)
		return udb_check(buf);
	size = min_t(u64, size, buf->size - pos);

	if (sync) {
		ret = reader ? udb_sync_reader(buf, user, pos, size) :
			       udb_sync_memory(buf, user, pos, size, dir, false);
		if (ret)
			return ret;
	}
	done = udb_copy(user, pos, iter, size, write);
	/* A reader has written nothing, and drops nothing that others wrote. */
	if (sync && !reader) {
		ret = udb_sync_memory(buf, user, pos, size, dir, true);
		if (ret && done >= 0)
			done = ret;
	}
	if (done > 0)
		iocb->ki_pos = pos + done;
	return done;
}

static ssize_t udb_read_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	return udb_transfer(iocb, iter, false);
}

static ssize_t udb_write_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	return udb_transfer(iocb, iter, true);
}

/*
 * A claimant's advice is a sync: of all calls that bring a range the cheapest, as no
 * security module looks at it and nothing is copied. (Its file is open for reading
 * and writing, or there would be no claim.) Others advise of whatever they read.
 * POSIX_FADV_WILLNEED is no sync: madvise() of a mapping comes here with it.
 */
static int udb_fadvise(struct file *file, loff_t offset, loff_t size, int advice)
{
	struct udb_file *user = file->private_data;
	struct u_dma_buf_sync_range range = {
		.offset = offset,
		.size = size,
		.direction = U_DMA_BUF_BIDIRECTIONAL,
	};

	if (!user->claims)
		return generic_fadvise(file, offset, size, advice);
	if (advice == POSIX_FADV_DONTNEED)
		range.command = U_DMA_BUF_SYNC_FOR_DEVICE;
	else if (advice == POSIX_FADV_NOREUSE)
		range.command = U_DMA_BUF_SYNC_FOR_CPU;
	else
		return generic_fadvise(file, offset, size, advice);
	/* 0 is up to the end, for other files. */
	if (size <= 0)
		return -EINVAL;
	return udb_sync_range(user->buf, user, &range);
}

static const struct file_operations udb_fops = {
	.owner = THIS_MODULE,
	.open = udb_open,
	.release = udb_file_release,
	.llseek = udb_llseek,
	.read_iter = udb_read_iter,
	.write_iter = udb_write_iter,
	.splice_read = udb_splice_read,
	.splice_write = iter_file_splice_write,
	.mmap = udb_mmap,
	.show_fdinfo = udb_show_fdinfo,
	.fadvise = IS_ENABLED(CONFIG_ADVISE_SYSCALLS) ? udb_fadvise : NULL,
	.get_unmapped_area = udb_get_unmapped_area,
	.unlocked_ioctl = udb_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

dev_t udb_devt(int minor)
{
	return MKDEV(MAJOR(udb_first_devt), minor);
}

int udb_chrdev_init(void)
{
	return alloc_chrdev_region(&udb_first_devt, 0, UDB_MINORS, UDB_NAME);
}

/*
 * From now on files can be opened. Nothing of the module's init may fail after
 * this: that would free the module however many files are open. So buffers made
 * by init have their uevent and their node earlier; udev's rules for them work,
 * but to open one is ENXIO until here.
 */
int udb_chrdev_start(void)
{
	struct cdev *cdev = cdev_alloc();
	int ret;

	if (!cdev)
		return -ENOMEM;
	cdev->owner = THIS_MODULE;
	cdev->ops = &udb_fops;
	ret = cdev_add(cdev, udb_first_devt, UDB_MINORS);
	if (ret) {
		kobject_put(&cdev->kobj);
		return ret;
	}
	udb_cdev = cdev;
	return 0;
}

void udb_chrdev_exit(void)
{
	if (udb_cdev)
		cdev_del(udb_cdev);
	unregister_chrdev_region(udb_first_devt, UDB_MINORS);
}
