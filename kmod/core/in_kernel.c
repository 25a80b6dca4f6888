// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The functions of include/linux/u-dma-buf.h, for other modules. */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "../include/linux/u-dma-buf.h"
#include "udb.h"

struct device *u_dma_buf_device_create(const char *name, int id, size_t size, u64 option,
				       struct device *parent)
{
	struct udb_request request = {
		.name = name,
		.size = size,
		.minor = id < 0 ? UDB_ANY_MINOR : id,
		.dma_mask_bits = option & U_DMA_BUF_OPTION_DMA_MASK,
		.mmap_mode = (option >> U_DMA_BUF_OPTION_MMAP_MODE_SHIFT) & 7,
		.parent = parent,
	};

	if (request.mmap_mode > UDB_MMAP_PAGE)
		return ERR_PTR(-EINVAL);
	/* Its driver is the caller, and so stays; also in its probe. */
	if (parent && (!READ_ONCE(parent->driver) || !parent->dma_mask ||
		       !parent->coherent_dma_mask))
		return ERR_PTR(-EINVAL);
	return udb_made_create(&request);
}
EXPORT_SYMBOL_GPL(u_dma_buf_device_create);

int u_dma_buf_device_remove(struct device *dev)
{
	return udb_made_remove(dev);
}
EXPORT_SYMBOL_GPL(u_dma_buf_device_remove);

struct device *u_dma_buf_device_search(const char *name, int id)
{
	struct device *dev = ERR_PTR(-ENODEV);
	struct udb_buffer *buf;
	int minor;

	for (minor = 0; minor < UDB_MINORS && IS_ERR(dev); minor++) {
		if ((id >= 0 && id != minor) || (!name && id < 0))
			continue;
		buf = udb_minor_get(minor);
		if (!buf)
			continue;
		if (!udb_enter(buf)) {
			/* None yet: it is still being made. */
			struct device *sys_dev = smp_load_acquire(&buf->sys_dev);

			if (sys_dev && (!name || !strcmp(dev_name(sys_dev), name)))
				dev = buf->own;
			udb_leave(buf);
		}
		udb_put(buf);
	}
	return dev;
}
EXPORT_SYMBOL_GPL(u_dma_buf_device_search);

/* The buffer of that device, referenced and entered, or an error pointer. */
static struct udb_buffer *udb_find_entered(struct device *dev)
{
	struct udb_buffer *buf;
	int minor;

	for (minor = 0; minor < UDB_MINORS; minor++) {
		buf = udb_minor_get(minor);
		if (!buf)
			continue;
		if (!udb_enter(buf)) {
			if (buf->own == dev)
				return buf;
			udb_leave(buf);
		}
		udb_put(buf);
	}
	return ERR_PTR(-EINVAL);
}

/* With buf entered: the mapping lasts until removal, and so does its user. */
static int udb_map_for_kernel(struct udb_buffer *buf)
{
	static DEFINE_MUTEX(lock);
	int ret = 0;

	mutex_lock(&lock);
	if (buf->vaddr)
		goto out;
	ret = udb_check_claims(buf, NULL, 0, buf->memory.size);
	if (ret)
		goto out;
	ret = udb_user_get(buf);
	if (ret)
		goto out;
	WRITE_ONCE(buf->vaddr, udb_memory_vmap(&buf->memory, 0, buf->memory.size));
	if (!buf->vaddr) {
		udb_user_put(buf, NULL);
		ret = -ENOMEM;
	}
	udb_cache_used(buf);
out:
	mutex_unlock(&lock);
	return ret;
}

int u_dma_buf_device_getmap(struct device *dev, size_t *size, void **virt_addr,
			    dma_addr_t *phys_addr)
{
	struct udb_buffer *buf = udb_find_entered(dev);
	int ret = 0;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	if (virt_addr) {
		ret = udb_map_for_kernel(buf);
		if (ret)
			goto out;
		*virt_addr = buf->vaddr;
	}
	if (size)
		*size = buf->size;
	if (phys_addr)
		*phys_addr = buf->memory.dma_addr;
out:
	udb_leave(buf);
	udb_put(buf);
	return ret;
}
EXPORT_SYMBOL_GPL(u_dma_buf_device_getmap);

int u_dma_buf_device_sync(struct device *dev, int command, int direction, u64 offset,
			  ssize_t size)
{
	struct u_dma_buf_sync_range range = { .offset = offset };
	struct udb_sync_settings stored;
	struct udb_buffer *buf;
	int ret;

	if (command < U_DMA_BUF_DEVICE_SYNC_NONE || command > U_DMA_BUF_DEVICE_SYNC_FOR_DEVICE)
		return -EINVAL;
	buf = udb_find_entered(dev);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	udb_leave(buf);
	ret = udb_user_get(buf);
	if (ret)
		goto out;

	stored = udb_settings(buf);
	range.size = size > 0 ? size : stored.size;
	range.direction = direction < U_DMA_BUF_BIDIRECTIONAL ||
			  direction > U_DMA_BUF_FROM_DEVICE ? stored.direction : direction;
	range.command = command == U_DMA_BUF_DEVICE_SYNC_FOR_CPU ? U_DMA_BUF_SYNC_FOR_CPU :
								   U_DMA_BUF_SYNC_FOR_DEVICE;
	if (command == U_DMA_BUF_DEVICE_SYNC_NONE)
		ret = udb_range_ok(buf->size, range.offset, range.size) ? 0 : -EINVAL;
	else
		ret = udb_sync_range(buf, NULL, &range);
	udb_user_put(buf, NULL);
out:
	udb_put(buf);
	return ret;
}
EXPORT_SYMBOL_GPL(u_dma_buf_device_sync);

const struct bus_type *u_dma_buf_find_available_bus_type(char *name, int name_len)
{
	if (name_len == 8 && !strncmp(name, "platform", 8))
		return &platform_bus_type;
#if IS_ENABLED(CONFIG_PCI)
	if (name_len == 3 && !strncmp(name, "pci", 3))
		return &pci_bus_type;
#endif
	return NULL;
}
EXPORT_SYMBOL_GPL(u_dma_buf_find_available_bus_type);
