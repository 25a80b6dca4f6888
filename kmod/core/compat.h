/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What differs between kernel versions, 6.1 to the newest; nothing else looks
 * at LINUX_VERSION_CODE.
 */
#ifndef UDB_COMPAT_H
#define UDB_COMPAT_H

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/version.h>

/* The device that a class's devnode function gets. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define udb_devnode_device const struct device
#else
#define udb_devnode_device struct device
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define udb_class_create(name) class_create(name)
#else
#define udb_class_create(name) class_create(THIS_MODULE, name)
#endif

static inline void udb_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/* The largest block that the page allocator has. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define UDB_MAX_BLOCK (PAGE_SIZE << MAX_PAGE_ORDER)
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define UDB_MAX_BLOCK (PAGE_SIZE << MAX_ORDER)
#else
#define UDB_MAX_BLOCK (PAGE_SIZE << (MAX_ORDER - 1))
#endif

/*
 * dma_buf_ops.vmap and .vunmap, made of vmap(dmabuf), which gives an address or
 * an error pointer, and vunmap(dmabuf).
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0)
#include <linux/iosys-map.h>

#define UDB_DMA_BUF_VMAP_OPS(vmap, vunmap)					\
static int vmap##_op(struct dma_buf *dmabuf, struct iosys_map *map)		\
{										\
	void *vaddr = vmap(dmabuf);						\
										\
	if (IS_ERR(vaddr))							\
		return PTR_ERR(vaddr);						\
	iosys_map_set_vaddr(map, vaddr);					\
	return 0;								\
}										\
										\
static void vunmap##_op(struct dma_buf *dmabuf, struct iosys_map *map)		\
{										\
	vunmap(dmabuf);								\
}
#else
#define UDB_DMA_BUF_VMAP_OPS(vmap, vunmap)					\
static void *vmap##_op(struct dma_buf *dmabuf)					\
{										\
	void *vaddr = vmap(dmabuf);						\
										\
	return IS_ERR(vaddr) ? NULL : vaddr;					\
}										\
										\
static void vunmap##_op(struct dma_buf *dmabuf, void *vaddr)			\
{										\
	vunmap(dmabuf);								\
}
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define UDB_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS("DMA_BUF")
#else
#define UDB_IMPORT_NS_DMA_BUF MODULE_IMPORT_NS(DMA_BUF)
#endif

/* What a platform driver's remove function returns. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define udb_remove_result void
#define UDB_REMOVED
#else
#define udb_remove_result int
#define UDB_REMOVED 0
#endif

#endif /* UDB_COMPAT_H */
