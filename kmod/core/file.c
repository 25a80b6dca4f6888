// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The character devices: open, release, lseek, read and write. */
#include <linux/cdev.h>
#include <linux/dma-direction.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "udb.h"

static dev_t udb_first_devt;
static struct cdev *udb_cdev;

static int udb_open(struct inode *inode, struct file *file)
{
	struct udb_buffer *buf = udb_minor_get(iminor(inode));
	struct udb_file *user;
	int ret;

	if (!buf)
		return -ENODEV;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	ret = user ? udb_enter(buf) : -ENOMEM;
	if (ret)
		goto err_put;
	ret = udb_user_get(buf);
	udb_leave(buf);
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

	udb_user_put(user->buf, user);
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

/* Within one page. */
static int udb_copy_page(struct udb_file *user, size_t offset, void *bounce,
			 size_t len, bool write)
{
	struct udb_buffer *buf = user->buf;
	struct page *page;
	int ret;

	ret = udb_enter(buf);
	if (ret)
		return ret;
	ret = udb_check_claims(buf, user, offset, len);
	if (ret)
		goto out;
	page = pfn_to_page(udb_memory_pfn(&buf->memory, offset));
	if (write)
		memcpy_to_page(page, offset_in_page(offset), bounce, len);
	else
		memcpy_from_page(bounce, page, offset_in_page(offset), len);
out:
	udb_leave(buf);
	return ret;
}

/*
 * Bytes that were copied, or an error. Goes through a page of the kernel's, as
 * user memory is not touched where the buffer's is.
 */
static ssize_t udb_copy(struct udb_file *user, size_t offset, struct iov_iter *iter,
			size_t size, bool write)
{
	void *bounce = (void *)__get_free_page(GFP_KERNEL);
	size_t done = 0;
	int ret = 0;

	if (!bounce)
		return -ENOMEM;
	while (done < size) {
		size_t want = min_t(size_t, size - done, PAGE_SIZE - offset_in_page(offset));
		size_t got = want;

		if (write)
			got = copy_from_iter(bounce, want, iter);
		if (got)
			ret = udb_copy_page(user, offset, bounce, got, write);
		if (ret)
			break;
		if (!write)
			got = copy_to_iter(bounce, want, iter);
		done += got;
		offset += got;
		if (got < want) {
			ret = -EFAULT;
			break;
		}
		cond_resched();
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
	}
	free_page((unsigned long)bounce);
	return done ?: ret;
}

static ssize_t udb_transfer(struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	enum dma_data_direction dir = write ? DMA_BIDIRECTIONAL : DMA_FROM_DEVICE;
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
		ret = udb_sync_memory(buf, user, pos, size, dir, false);
		if (ret)
			return ret;
	}
	done = udb_copy(user, pos, iter, size, write);
	if (sync) {
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

static const struct file_operations udb_fops = {
	.owner = THIS_MODULE,
	.open = udb_open,
	.release = udb_file_release,
	.llseek = udb_llseek,
	.read_iter = udb_read_iter,
	.write_iter = udb_write_iter,
	.mmap = udb_mmap,
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
