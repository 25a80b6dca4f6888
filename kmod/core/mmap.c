// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * mmap: shared and cached. Pages are put in by the fault handler, many at a
 * time, and never by mmap itself: a VMA is not found by removal's
 * unmap_mapping_range() until mmap has returned.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "compat.h"
#include "udb.h"

/* Mapped by one fault. */
#define UDB_FAULT_WINDOW SZ_2M

static vm_fault_t udb_insert(struct vm_area_struct *vma, const struct udb_memory *mem,
			     unsigned long addr)
{
	pgoff_t index = linear_page_index(vma, addr);

	if (index >= mem->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vma, addr, udb_memory_pfn(mem, (size_t)index << PAGE_SHIFT));
}

static vm_fault_t udb_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct udb_use *use = vma->vm_private_data;
	struct udb_buffer *buf = use->user->buf;
	unsigned long fault = vmf->address & PAGE_MASK;
	unsigned long window = ALIGN_DOWN(fault, UDB_FAULT_WINDOW);
	unsigned long addr = max(window, vma->vm_start);
	unsigned long end = window + min_t(unsigned long, UDB_FAULT_WINDOW, vma->vm_end - window);
	vm_fault_t ret;

	if (udb_enter(buf))
		return VM_FAULT_SIGBUS;
	ret = udb_insert(vma, &buf->memory, fault);
	/* The rest is a favour, and so is its failure; what is there stays. */
	for (; ret == VM_FAULT_NOPAGE && addr < end; addr += PAGE_SIZE)
		if (udb_insert(vma, &buf->memory, addr) != VM_FAULT_NOPAGE)
			break;
	udb_leave(buf);
	return ret;
}

/* A part of the VMA becomes one of its own, or moves. */
static void udb_vma_open(struct vm_area_struct *vma)
{
	struct udb_use *use = vma->vm_private_data;

	refcount_inc(&use->vmas);
}

static void udb_vma_close(struct vm_area_struct *vma)
{
	struct udb_use *use = vma->vm_private_data;

	if (!refcount_dec_and_test(&use->vmas))
		return;
	udb_use_end(use);
	kfree(use);
}

static const struct vm_operations_struct udb_vm_ops = {
	.open = udb_vma_open,
	.close = udb_vma_close,
	.fault = udb_fault,
};

/* Does this open file map without the CPU's cache, or write-combined? */
static bool udb_maps_uncached(struct udb_buffer *buf, struct file *file)
{
	unsigned int mode = udb_settings(buf).mode;

	return (mode & UDB_SYNC_MODE_MASK) &&
	       ((mode & UDB_SYNC_MODE_ALWAYS) || (file->f_flags & O_DSYNC));
}

int udb_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct udb_file *user = file->private_data;
	struct udb_buffer *buf = user->buf;
	unsigned long pages = PAGE_ALIGN(buf->size) >> PAGE_SHIFT;

	if (vma->vm_pgoff == U_DMA_BUF_MMAP_LENT >> PAGE_SHIFT)
		return udb_lent_mmap(user, vma);
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	/* A private mapping would copy on write, which the device never sees. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (udb_maps_uncached(buf, file))
		return -EOPNOTSUPP;
	return udb_mmap_use(user, vma);
}

/* Of pages inside the buffer; the VMA holds user's file, which holds the buffer. */
int udb_mmap_use(struct udb_file *user, struct vm_area_struct *vma)
{
	struct udb_use *use = kzalloc(sizeof(*use), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!use)
		return -ENOMEM;
	ret = udb_use_begin(use, user, (u64)vma->vm_pgoff << PAGE_SHIFT,
			    vma->vm_end - vma->vm_start);
	if (ret) {
		kfree(use);
		return ret;
	}

	/* VM_IO: madvise() cannot have the mapping inherited after all. */
	udb_vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	vma->vm_private_data = use;
	vma->vm_ops = &udb_vm_ops;
	return 0;
}
