// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The ioctls of include/uapi/u-dma-buf.h. */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "udb.h"

union udb_ioctl_data {
	u32 u32;
	u64 u64;
	struct u_dma_buf_drv_info drv_info;
	struct u_dma_buf_dev_info dev_info;
	struct u_dma_buf_sync_args sync_args;
	struct u_dma_buf_caps caps;
	struct u_dma_buf_claim_range claim_range;
	struct u_dma_buf_sync_batch sync_batch;
};

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

/* For what needs the file to be open in this way. */
static int udb_fetch(struct file *file, fmode_t mode, unsigned int cmd, void __user *arg,
		     union udb_ioctl_data *data)
{
	if ((file->f_mode & mode) != mode)
		return -EBADF;
	return copy_from_user(data, arg, _IOC_SIZE(cmd)) ? -EFAULT : 0;
}

long udb_ioctl(struct file *file, unsigned int cmd, unsigned long user_arg)
{
	void __user *arg = (void __user *)user_arg;
	struct udb_file *user = file->private_data;
	struct udb_buffer *buf = user->buf;
	union udb_ioctl_data data = { };
	int ret;

	if (cmd == UDB_EXPORT_SHORT)
		cmd = U_DMA_BUF_IOCTL_EXPORT;
	switch (cmd) {
	case U_DMA_BUF_IOCTL_SET_SYNC_FOR_CPU:
		ret = udb_fetch(file, FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_sync_value(buf, user, data.u64, U_DMA_BUF_SYNC_FOR_CPU);
	case U_DMA_BUF_IOCTL_SET_SYNC_FOR_DEVICE:
		ret = udb_fetch(file, FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_sync_value(buf, user, data.u64, U_DMA_BUF_SYNC_FOR_DEVICE);
	case U_DMA_BUF_IOCTL_SET_SYNC:
		ret = udb_fetch(file, FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_set_sync(user, &data.sync_args);
	case U_DMA_BUF_IOCTL_SYNC_BATCH:
		ret = udb_fetch(file, FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_sync_batch(user, &data.sync_batch);
	case U_DMA_BUF_IOCTL_EXPORT:
		return udb_export(file, arg);
	case U_DMA_BUF_IOCTL_CLAIM:
		ret = udb_fetch(file, FMODE_READ | FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_claim(user, data.u64);
	case U_DMA_BUF_IOCTL_CLAIM_RANGE:
		ret = udb_fetch(file, FMODE_READ | FMODE_WRITE, cmd, arg, &data);
		return ret ?: udb_claim_range(user, &data.claim_range);

	case U_DMA_BUF_IOCTL_SET_MAP_MODE:
		if (copy_from_user(&data.u64, arg, sizeof(data.u64)))
			return -EFAULT;
		return udb_set_map_mode(user, data.u64);

	/* The others only read; their answer is copied below. */
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
	default:
		return -ENOTTY;
	}

	ret = udb_check(buf);
	if (ret)
		return ret;
	return copy_to_user(arg, &data, _IOC_SIZE(cmd)) ? -EFAULT : 0;
}
