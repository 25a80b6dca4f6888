// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The ioctls of include/uapi/u-dma-buf.h. */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "udb.h"

/* EXPORT as i386 has it, without padding at the end. */
#define UDB_EXPORT_SHORT \
	_IOC(_IOC_READ | _IOC_WRITE, U_DMA_BUF_IOCTL_TYPE, 10, \
	     offsetofend(struct u_dma_buf_export_args, fd))

static void udb_get_drv_info(struct u_dma_buf_drv_info *info)
{
	info->flags = U_DMA_BUF_IOCTL_VERSION | U_DMA_BUF_DRV_IN_KERNEL |
		      U_DMA_BUF_DRV_QUIRK_MMAP | U_DMA_BUF_DRV_QUIRK_MMAP_PAGE;
	if (IS_ENABLED(CONFIG_OF))
		info->flags |= U_DMA_BUF_DRV_OF_DMA_CONFIG;
	if (IS_ENABLED(CONFIG_OF_RESERVED_MEM))
		info->flags |= U_DMA_BUF_DRV_OF_RESERVED_MEM;
	strscpy_pad(info->version, UDB_VERSION, sizeof(info->version));
}

static void udb_get_dev_info(struct udb_buffer *buf, struct u_dma_buf_dev_info *info)
{
	info->flags = buf->dma_mask_bits | buf->mmap_mode << U_DMA_BUF_DEV_MMAP_MODE_SHIFT;
	if (buf->coherent)
		info->flags |= U_DMA_BUF_DEV_COHERENT;
	info->size = buf->size;
	info->addr = buf->memory.dma_addr;
}

u64 udb_capabilities(const struct udb_buffer *buf)
{
	u64 flags = U_DMA_BUF_CAP_CLAIM | U_DMA_BUF_CAP_CLAIM_RANGE | U_DMA_BUF_CAP_SYNC_BATCH |
		    U_DMA_BUF_CAP_LENT | U_DMA_BUF_CAP_MAP_MODE;

	if (IS_ENABLED(CONFIG_ADVISE_SYSCALLS))
		flags |= U_DMA_BUF_CAP_ADVICE;
	if (buf->memory.uncached)
		return flags;
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
		flags |= U_DMA_BUF_CAP_EXPORT;
	if (IS_ENABLED(CONFIG_ARM64) && !buf->coherent)
		flags |= U_DMA_BUF_CAP_USER_SYNC;
	return flags;
}

static void udb_get_caps(struct udb_buffer *buf, struct u_dma_buf_caps *caps)
{
	caps->flags = udb_capabilities(buf);
	caps->cache_alignment = dma_get_cache_alignment();
}

static int udb_get_parent(const struct udb_buffer *buf, struct u_dma_buf_parent *parent)
{
	int len;

	if (!buf->parent)
		return 0;
	len = snprintf(parent->name, sizeof(parent->name), "%s/%s",
		       buf->parent->bus->name, dev_name(buf->parent));
	return len < (int)sizeof(parent->name) ? 0 : -ENAMETOOLONG;
}

/* What only reads. */
static long udb_ioctl_get(struct udb_buffer *buf, unsigned int cmd, void __user *arg)
{
	union {
		u32 u32;
		u64 u64;
		struct u_dma_buf_drv_info drv_info;
		struct u_dma_buf_dev_info dev_info;
		struct u_dma_buf_sync_args sync_args;
		struct u_dma_buf_caps caps;
		struct u_dma_buf_parent parent;
	} data = { };
	int ret = 0;

	switch (cmd) {
	case U_DMA_BUF_IOCTL_GET_DRV_INFO:
		udb_get_drv_info(&data.drv_info);
		break;
	case U_DMA_BUF_IOCTL_GET_SIZE:
		data.u64 = buf->size;
		break;
	case U_DMA_BUF_IOCTL_GET_DMA_ADDR:
		data.u64 = buf->memory.dma_addr;
		break;
	case U_DMA_BUF_IOCTL_GET_SYNC_OWNER:
		data.u32 = udb_owner(buf);
		break;
	case U_DMA_BUF_IOCTL_GET_DEV_INFO:
		udb_get_dev_info(buf, &data.dev_info);
		break;
	case U_DMA_BUF_IOCTL_GET_SYNC:
		udb_get_sync(buf, &data.sync_args);
		break;
	case U_DMA_BUF_IOCTL_GET_CAPS:
		udb_get_caps(buf, &data.caps);
		break;
	case U_DMA_BUF_IOCTL_GET_PARENT:
		ret = udb_get_parent(buf, &data.parent);
		break;
	default:
		return -ENOTTY;
	}

	ret = udb_check(buf) ?: ret;
	if (ret)
		return ret;
	return copy_to_user(arg, &data, _IOC_SIZE(cmd)) ? -EFAULT : 0;
}

/*
 * For what needs the file to be open in this way. Inline, as a copy of a constant
 * size costs a third.
 */
static __always_inline int udb_fetch(struct file *file, fmode_t mode, void *data,
				     void __user *arg, size_t size)
{
	if ((file->f_mode & mode) != mode)
		return -EBADF;
	return copy_from_user(data, arg, size) ? -EFAULT : 0;
}

static long udb_ioctl_sync(struct file *file, u64 __user *arg, u32 command)
{
	struct udb_file *user = file->private_data;
	u64 value;

	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (get_user(value, arg))
		return -EFAULT;
	return udb_sync_value(user->buf, user, value, command);
}

static noinline long udb_ioctl_any(struct file *file, unsigned int cmd, unsigned long user_arg)
{
	void __user *arg = (void __user *)user_arg;
	struct udb_file *user = file->private_data;
	union {
		u64 u64;
		struct u_dma_buf_sync_args sync_args;
		struct u_dma_buf_claim_range claim_range;
		struct u_dma_buf_sync_batch sync_batch;
	} data;
	int ret;

	switch (cmd) {
	case U_DMA_BUF_IOCTL_SET_SYNC:
		ret = udb_fetch(file, FMODE_WRITE, &data, arg, sizeof(data.sync_args));
		return ret ?: udb_set_sync(user, &data.sync_args);
	case U_DMA_BUF_IOCTL_SYNC_BATCH:
		ret = udb_fetch(file, FMODE_WRITE, &data, arg, sizeof(data.sync_batch));
		return ret ?: udb_sync_batch(user, &data.sync_batch);
	case U_DMA_BUF_IOCTL_CLAIM:
		ret = udb_fetch(file, FMODE_READ | FMODE_WRITE, &data, arg, sizeof(data.u64));
		return ret ?: udb_claim(user, data.u64);
	case U_DMA_BUF_IOCTL_CLAIM_RANGE:
		ret = udb_fetch(file, FMODE_READ | FMODE_WRITE, &data, arg,
				sizeof(data.claim_range));
		return ret ?: udb_claim_range(user, &data.claim_range);
	case U_DMA_BUF_IOCTL_SET_MAP_MODE:
		ret = udb_fetch(file, 0, &data, arg, sizeof(data.u64));
		return ret ?: udb_set_map_mode(user, data.u64);
	}
	/* On i386 the two are one. */
	if (cmd == U_DMA_BUF_IOCTL_EXPORT || cmd == UDB_EXPORT_SHORT)
		return udb_export(file, arg);
	return udb_ioctl_get(user->buf, cmd, arg);
}

/* What is called often comes first, and needs no room for an argument. */
long udb_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd == U_DMA_BUF_IOCTL_SET_SYNC_FOR_DEVICE)
		return udb_ioctl_sync(file, (u64 __user *)arg, U_DMA_BUF_SYNC_FOR_DEVICE);
	if (cmd == U_DMA_BUF_IOCTL_SET_SYNC_FOR_CPU)
		return udb_ioctl_sync(file, (u64 __user *)arg, U_DMA_BUF_SYNC_FOR_CPU);
	return udb_ioctl_any(file, cmd, arg);
}
