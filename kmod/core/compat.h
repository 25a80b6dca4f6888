/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What differs between kernel versions, 5.10 to the newest; nothing else looks
 * at LINUX_VERSION_CODE.
 */
#ifndef UDB_COMPAT_H
#define UDB_COMPAT_H

#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
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

/* Memory that an IOMMU makes contiguous; before 5.13 there is none. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 13, 0)
static inline struct sg_table *udb_alloc_noncontiguous(struct device *dev, size_t size)
{
	return dma_alloc_noncontiguous(dev, size, DMA_BIDIRECTIONAL,
				       GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN, 0);
}

static inline void udb_free_noncontiguous(struct device *dev, size_t size, struct sg_table *sgt)
{
	dma_free_noncontiguous(dev, size, sgt, DMA_BIDIRECTIONAL);
}
#else
static inline struct sg_table *udb_alloc_noncontiguous(struct device *dev, size_t size)
{
	return NULL;
}

static inline void udb_free_noncontiguous(struct device *dev, size_t size, struct sg_table *sgt)
{
}
#endif

/* Of a page in high memory, for a moment without sleep. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#define udb_kmap(page) kmap_local_page(page)
#define udb_kunmap(addr) kunmap_local(addr)
#else
#define udb_kmap(page) kmap_atomic(page)
#define udb_kunmap(addr) kunmap_atomic(addr)
#endif

/*
 * Makes the start of iter's user memory present; false if there is any. write:
 * it will be read, into the buffer.
 */
static inline bool udb_fault_in(struct iov_iter *iter, size_t size, bool write)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
	if (write)
		return fault_in_iov_iter_readable(iter, size) == size;
	return fault_in_iov_iter_writeable(iter, size) == size;
#else
	/* Stable kernels, too, took away what there was: a byte brings its page. */
	struct iovec part;
	char __maybe_unused byte;

	if (!iter_is_iovec(iter))
		return false;
	part = iov_iter_iovec(iter);
	if (!min(size, part.iov_len))
		return false;
	if (write)
		return get_user(byte, (char __user *)part.iov_base);
	return put_user((char)0, (char __user *)part.iov_base);
#endif
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define udb_splice_read copy_splice_read
#else
#define udb_splice_read generic_file_splice_read
#endif

/*
 * get_user_pages() of mappings with VM_MIXEDMAP, which are what can be
 * populated, is wrong before 5.18 where pages have no references.
 */
#define UDB_CAN_POPULATE (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0) && \
			  IS_ENABLED(CONFIG_ARCH_HAS_PTE_SPECIAL) && __is_defined(UDB_HAS_PTES))

/* Where modules can set PTEs, which is much cheaper than one call a page. */
#if defined(CONFIG_ARM64) || defined(CONFIG_X86_64)
#define UDB_HAS_PTES 1
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define udb_ptep_get(pte) ptep_get(pte)
#else
#define udb_ptep_get(pte) (*(pte))
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) && defined(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)
#define UDB_HAS_HUGE_PFNS 1
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define udb_vmf_insert_pfn_pmd(vmf, pfn, write) vmf_insert_pfn_pmd(vmf, pfn, write)
#else
#include <linux/pfn_t.h>
#define udb_vmf_insert_pfn_pmd(vmf, pfn, write) \
	vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), write)
#endif
#endif

/* At an address where huge pages fit, if there are any. */
static inline unsigned long udb_huge_unmapped_area(struct file *file, unsigned long addr,
						   unsigned long len, unsigned long pgoff,
						   unsigned long flags)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return thp_get_unmapped_area(file, addr, len, pgoff, flags);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	return mm_get_unmapped_area(file, addr, len, pgoff, flags);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	return mm_get_unmapped_area(current->mm, file, addr, len, pgoff, flags);
#else
	return current->mm->get_unmapped_area(file, addr, len, pgoff, flags);
#endif
}

/*
 * dma_buf_ops.vmap and .vunmap, made of vmap(dmabuf), which gives an address or
 * an error pointer, and vunmap(dmabuf).
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0)
#include <linux/iosys-map.h>
#define udb_vmap_result iosys_map
#define udb_set_vmap_result(map, vaddr) iosys_map_set_vaddr(map, vaddr)
#else
#include <linux/dma-buf-map.h>
#define udb_vmap_result dma_buf_map
#define udb_set_vmap_result(map, vaddr) dma_buf_map_set_vaddr(map, vaddr)
#endif

#define UDB_DMA_BUF_VMAP_OPS(vmap, vunmap)					\
static int vmap##_op(struct dma_buf *dmabuf, struct udb_vmap_result *map)	\
{										\
	void *vaddr = vmap(dmabuf);						\
										\
	if (IS_ERR(vaddr))							\
		return PTR_ERR(vaddr);						\
	udb_set_vmap_result(map, vaddr);					\
	return 0;								\
}										\
										\
static void vunmap##_op(struct dma_buf *dmabuf, struct udb_vmap_result *map)	\
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

/*
 * Is memory that this device reaches left unencrypted, on a machine that encrypts
 * the rest? Mappings of ours would decrypt what is not encrypted.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
#include <linux/cc_platform.h>

static inline bool udb_unencrypted(struct device *dev)
{
	/* A host's encryption is a high bit of the address. */
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT) && dma_get_mask(dev) == DMA_BIT_MASK(64))
		return false;
	return cc_platform_has(CC_ATTR_MEM_ENCRYPT);
}
#else
#include <linux/mem_encrypt.h>

static inline bool udb_unencrypted(struct device *dev)
{
	return mem_encrypt_active();
}
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
