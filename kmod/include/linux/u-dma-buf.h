/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * u-dma-buf for other modules: they make, find, map, sync and remove buffers.
 * All of it may sleep. A buffer is named by its device, of which no reference is
 * taken: it is good until the buffer is removed.
 */
#ifndef _LINUX_U_DMA_BUF_H
#define _LINUX_U_DMA_BUF_H

#include <linux/types.h>

struct bus_type;
struct device;

/* Bits of option; 0 in any of them: the default. */
#define U_DMA_BUF_OPTION_DMA_MASK		0xffULL	/* bits in the DMA mask */
#define U_DMA_BUF_OPTION_MMAP_MODE_SHIFT	10	/* 3 bits, quirk_mmap_mode */

/**
 * u_dma_buf_device_create() - make a buffer
 * @name: of the device file, or NULL for one that is made up
 * @id: minor number, or negative for any
 * @size: bytes
 * @option: U_DMA_BUF_OPTION_*
 * @parent: device that the memory is for, and that the caller is the driver of;
 *          or NULL
 *
 * The memory stays until the caller removes the buffer, whoever unbinds the
 * buffer's device meanwhile; or until the parent's driver has been removed: what
 * it made and did not remove goes after its remove function (or a probe that
 * failed), with programs that use it, as resources of devm_*() do. So stop the
 * device in the remove function, and then let go of the buffer there or not at
 * all. Call this in the parent's probe or as long as its driver stays.
 *
 * Return: its device, or an error pointer: -EINVAL (name, size, option, parent),
 * -EEXIST or -EBUSY (name or number taken), -ENOMEM
 */
struct device *u_dma_buf_device_create(const char *name, int id, size_t size, u64 option,
				       struct device *parent);

/**
 * u_dma_buf_device_remove() - remove what u_dma_buf_device_create() made
 * @dev: the buffer's device
 *
 * The caller vouches that no device writes there any more. Not for an action of the
 * parent's devm_*(): once these run, the buffer goes by itself.
 *
 * Return: 0, -EINVAL if it is none of those, or -EBUSY while a program has it
 * open, mapped or exported
 */
int u_dma_buf_device_remove(struct device *dev);

/**
 * u_dma_buf_device_search() - find any buffer
 * @name: of the device file, or NULL
 * @id: minor number, or negative
 *
 * Return: the device of the buffer that is as said, or ERR_PTR(-ENODEV)
 */
struct device *u_dma_buf_device_search(const char *name, int id);

/**
 * u_dma_buf_device_getmap() - where a buffer is
 * @dev: the buffer's device
 * @size: bytes; or NULL
 * @virt_addr: for the CPU, through its cache, until the buffer is removed; or
 *             NULL. Who asks for it is a user of the buffer, which cannot be
 *             claimed from then on. Of a buffer that was made by others nothing
 *             says when it is removed, or its device is unbound: see to it that
 *             neither happens.
 * @phys_addr: for the device; or NULL
 *
 * Return: 0, -EINVAL if there is no such buffer, -EBUSY if it is claimed, or
 * -ENOMEM
 */
int u_dma_buf_device_getmap(struct device *dev, size_t *size, void **virt_addr,
			    dma_addr_t *phys_addr);

#define U_DMA_BUF_DEVICE_SYNC_NONE		0	/* only checks */
#define U_DMA_BUF_DEVICE_SYNC_FOR_CPU		1
#define U_DMA_BUF_DEVICE_SYNC_FOR_DEVICE	2

/**
 * u_dma_buf_device_sync() - give a range to the CPU or to the device
 * @dev: the buffer's device
 * @command: U_DMA_BUF_DEVICE_SYNC_*
 * @direction: 0 bidirectional, 1 to the device, 2 from it; else the stored one
 * @offset: from the start
 * @size: bytes; 0 or less: the stored size
 *
 * The stored settings stay as they are.
 *
 * Return: 0, -EINVAL (no such buffer or command, or not inside it), -EBUSY if it
 * or the range is claimed, or -EINTR
 */
int u_dma_buf_device_sync(struct device *dev, int command, int direction, u64 offset,
			  ssize_t size);

/**
 * u_dma_buf_find_available_bus_type() - the buses that parents may be on
 * @name: "platform" or "pci", not terminated
 * @name_len: its length
 *
 * Return: the bus or NULL
 */
const struct bus_type *u_dma_buf_find_available_bus_type(char *name, int name_len);

#endif /* _LINUX_U_DMA_BUF_H */
