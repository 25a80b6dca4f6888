// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The ioctls of include/uapi/u-dma-buf.h. */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "udb.h"

static int udb_get_drv_info(struct udb_buffer *buf, void *data)
{
	struct u_dma_buf_drv_info *info = data;

	info->flags = U_DMA_BUF_IOCTL_VERSION | U_DMA_BUF_DRV_QUIRK_MMAP;
	if (IS_ENABLED(CONFIG_OF))
		info->flags |= U_DMA_BUF_DRV_OF_DMA_CONFIG;
	if (IS_ENABLED(CONFIG_OF_RESERVED_MEM))
		info->flags |= U_DMA_BUF_DRV_OF_RESERVED_MEM;
	strscpy(info->version, UDB_VERSION, sizeof(info->version));
	return 0;
}

static int udb_get_size(struct udb_buffer *buf, void *data)
{
	*(u64 *)data = buf->size;
	return 0;
}

static int udb_get_dma_addr(struct udb_buffer *buf, void *data)
{
	*(u64 *)data = buf->memory.dma_addr;
	return 0;
}

static int udb_get_sync_owner(struct udb_buffer *buf, void *data)
{
	*(u32 *)data = READ_ONCE(buf->owner);
	return 0;
}

static int udb_get_dev_info(struct udb_buffer *buf, void *data)
{
	struct u_dma_buf_dev_info *info = data;

	info->flags = buf->dma_mask_bits | UDB_QUIRK_MMAP_MODE << U_DMA_BUF_DEV_MMAP_MODE_SHIFT;
	if (buf->coherent)
		info->flags |= U_DMA_BUF_DEV_COHERENT;
	info->size = buf->size;
	info->addr = buf->memory.dma_addr;
	return 0;
}

static int udb_get_sync_args(struct udb_buffer *buf, void *data)
{
	udb_get_sync(buf, data);
	return 0;
}

static int udb_get_caps(struct udb_buffer *buf, void *data)
{
	struct u_dma_buf_caps *caps = data;

	caps->flags = UDB_CAPABILITIES;
	caps->cache_alignment = dma_get_cache_alignment();
	return 0;
}

static int udb_set_sync_for_cpu(struct file *file, const void __user *arg)
{
	u64 value;

	if (get_user(value, (const u64 __user *)arg))
		return -EFAULT;
	return udb_sync_value(file->private_data, value, false);
}

static int udb_set_sync_for_device(struct file *file, const void __user *arg)
{
	u64 value;

	if (get_user(value, (const u64 __user *)arg))
		return -EFAULT;
	return udb_sync_value(file->private_data, value, true);
}

static int udb_set_sync_args(struct file *file, const void __user *arg)
{
	struct u_dma_buf_sync_args args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return udb_set_sync(file->private_data, &args);
}

static int udb_set_claim(struct file *file, const void __user *arg)
{
	u64 flags;

	if (get_user(flags, (const u64 __user *)arg))
		return -EFAULT;
	return udb_claim(file->private_data, file, flags);
}

/*
 * Each has one. get fills the argument, zeroed, between udb_enter() and
 * udb_leave(); set fetches its own, and needs a file open for writing.
 */
struct udb_ioctl {
	unsigned int cmd;
	int (*get)(struct udb_buffer *buf, void *data);
	int (*set)(struct file *file, const void __user *arg);
};

static const struct udb_ioctl udb_ioctls[] = {
	{ U_DMA_BUF_IOCTL_GET_DRV_INFO, .get = udb_get_drv_info },
	{ U_DMA_BUF_IOCTL_GET_SIZE, .get = udb_get_size },
	{ U_DMA_BUF_IOCTL_GET_DMA_ADDR, .get = udb_get_dma_addr },
	{ U_DMA_BUF_IOCTL_GET_SYNC_OWNER, .get = udb_get_sync_owner },
	{ U_DMA_BUF_IOCTL_SET_SYNC_FOR_CPU, .set = udb_set_sync_for_cpu },
	{ U_DMA_BUF_IOCTL_SET_SYNC_FOR_DEVICE, .set = udb_set_sync_for_device },
	{ U_DMA_BUF_IOCTL_GET_DEV_INFO, .get = udb_get_dev_info },
	{ U_DMA_BUF_IOCTL_GET_SYNC, .get = udb_get_sync_args },
	{ U_DMA_BUF_IOCTL_SET_SYNC, .set = udb_set_sync_args },
	{ U_DMA_BUF_IOCTL_CLAIM, .set = udb_set_claim },
	{ U_DMA_BUF_IOCTL_GET_CAPS, .get = udb_get_caps },
};

union udb_ioctl_data {
	u32 u32;
	u64 u64;
	struct u_dma_buf_drv_info drv_info;
	struct u_dma_buf_dev_info dev_info;
	struct u_dma_buf_sync_args sync_args;
	struct u_dma_buf_caps caps;
};

static int udb_ioctl_get(const struct udb_ioctl *ioctl, struct udb_buffer *buf,
			 void __user *arg)
{
	union udb_ioctl_data data = { };
	int ret;

	ret = udb_enter(buf);
	if (ret)
		return ret;
	ret = ioctl->get(buf, &data);
	udb_leave(buf);

	if (!ret && copy_to_user(arg, &data, _IOC_SIZE(ioctl->cmd)))
		ret = -EFAULT;
	return ret;
}

long udb_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	const struct udb_ioctl *ioctl;

	for (ioctl = udb_ioctls; ioctl < udb_ioctls + ARRAY_SIZE(udb_ioctls); ioctl++) {
		if (ioctl->cmd != cmd)
			continue;
		if (ioctl->get)
			return udb_ioctl_get(ioctl, file->private_data, (void __user *)arg);
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		return ioctl->set(file, (const void __user *)arg);
	}
	return -ENOTTY;
}
