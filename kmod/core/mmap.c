// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * mmap: shared. Pages are put in by the fault handlers, many at a time, and
 * never by mmap itself: a VMA is not found by removal's unmap_mapping_range()
 * until mmap has returned.
 */
#include <linux/dma-map-ops.h>
#include <linux/fs.h>
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "compat.h"
#include "udb.h"

/* Mapped by one fault, if there is no huge page for it. */
#define UDB_FAULT_WINDOW SZ_2M
/* Of huge pages, where most of a fault's cost is the fault. */
#define UDB_HUGE_WINDOW 32UL
/* Of pages with references, for which the kernel keeps books. */
#define UDB_COUNTED_WINDOW 64

/* Adjacent pages of the buffer that become adjacent PTEs. */
struct udb_window {
	struct vm_area_struct *vma;
	const struct udb_memory *mem;
	unsigned long addr;
	size_t offset;
	size_t size;
};

/* The part around a fault; false if the fault is outside the buffer. */
static bool udb_window(struct udb_window *w, struct vm_fault *vmf, const struct udb_memory *mem)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long fault = vmf->address & PAGE_MASK;
	unsigned long start = ALIGN_DOWN(fault, UDB_FAULT_WINDOW);
	size_t offset = (size_t)vmf->pgoff << PAGE_SHIFT;
	unsigned long size;

	if (vmf->pgoff >= mem->size >> PAGE_SHIFT)
		return false;
	w->vma = vma;
	w->mem = mem;
	w->addr = max(start, vma->vm_start);
	w->offset = offset - (fault - w->addr);
	size = min_t(unsigned long, UDB_FAULT_WINDOW, vma->vm_end - start) - (w->addr - start);
	w->size = min_t(size_t, size, mem->size - w->offset);
	return true;
}

#ifdef UDB_HAS_PTES
struct udb_ptes {
	const struct udb_memory *mem;
	size_t offset;
	size_t left;			/* bytes that are contiguous from offset on */
	unsigned long pfn;
	struct vm_area_struct *vma;
};

/* With the page table locked. */
static int udb_set_pte(pte_t *pte, unsigned long addr, void *data)
{
	struct udb_ptes *p = data;

	if (!p->left) {
		p->left = udb_memory_contiguous(p->mem, p->offset);
		p->pfn = udb_memory_pfn(p->mem, p->offset);
	}
	if (pte_none(udb_ptep_get(pte))) {
		pte_t entry = pte_mkspecial(pfn_pte(p->pfn, p->vma->vm_page_prot));

		/* Else the first write to each page would fault for that. */
		if (p->vma->vm_flags & VM_WRITE)
			entry = pte_mkdirty(entry);
		set_pte_at(p->vma->vm_mm, addr, pte, entry);
	}
	p->pfn++;
	p->offset += PAGE_SIZE;
	p->left -= PAGE_SIZE;
	return 0;
}

static vm_fault_t udb_insert(const struct udb_window *w, unsigned long fault)
{
	struct udb_ptes ptes = { .mem = w->mem, .offset = w->offset, .vma = w->vma };
	int ret = apply_to_page_range(w->vma->vm_mm, w->addr, w->size, udb_set_pte, &ptes);

	return ret ? vmf_error(ret) : VM_FAULT_NOPAGE;
}
#else
static vm_fault_t udb_insert_page(const struct udb_window *w, unsigned long addr)
{
	size_t offset = w->offset + (addr - w->addr);

	return vmf_insert_pfn(w->vma, addr, udb_memory_pfn(w->mem, offset));
}

static vm_fault_t udb_insert(const struct udb_window *w, unsigned long fault)
{
	vm_fault_t ret = udb_insert_page(w, fault);
	unsigned long addr;

	/* The rest is a favour, and so is its failure; what is there stays. */
	for (addr = w->addr; ret == VM_FAULT_NOPAGE && addr - w->addr < w->size; addr += PAGE_SIZE)
		if (udb_insert_page(w, addr) != VM_FAULT_NOPAGE)
			break;
	return ret;
}
#endif

/* From the fault on, as what is there already ends it. */
static vm_fault_t udb_insert_counted(const struct udb_window *w, unsigned long fault)
{
	size_t offset = w->offset + (fault - w->addr);
	unsigned long count = (w->size - (fault - w->addr)) >> PAGE_SHIFT;
	struct page *pages[UDB_COUNTED_WINDOW];
	unsigned long i, left;
	int ret;

	count = min_t(unsigned long, count, UDB_COUNTED_WINDOW);
	for (i = 0; i < count; i++)
		pages[i] = pfn_to_page(udb_memory_pfn(w->mem, offset + (i << PAGE_SHIFT)));
	left = count;
	ret = vm_insert_pages(w->vma, fault, pages, &left);
	return ret && ret != -EBUSY && left == count ? vmf_error(ret) : VM_FAULT_NOPAGE;
}

static vm_fault_t udb_fault(struct vm_fault *vmf)
{
	struct udb_use *use = vmf->vma->vm_private_data;
	struct udb_buffer *buf = use->user->buf;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	struct udb_window window;

	if (udb_enter(buf))
		return VM_FAULT_SIGBUS;
	if (udb_window(&window, vmf, &buf->memory)) {
		if (buf->mmap_mode == UDB_MMAP_PAGE)
			ret = udb_insert_counted(&window, vmf->address & PAGE_MASK);
		else
			ret = udb_insert(&window, vmf->address & PAGE_MASK);
	}
	udb_leave(buf);
	return ret;
}

#ifdef UDB_HAS_HUGE_PFNS
/*
 * Those behind the one at offset, which has been put in, are a favour: as long as the
 * memory is contiguous, and their entries are in the same table, and free.
 */
static void udb_insert_next_huge(const struct vm_fault *vmf, const struct udb_memory *mem,
				 size_t offset, unsigned long pfn)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PMD_MASK;
	unsigned long i, count;

	count = min_t(unsigned long, vma->vm_end - addr, udb_memory_contiguous(mem, offset));
	count = min3(count >> PMD_SHIFT, PTRS_PER_PMD - pmd_index(addr), UDB_HUGE_WINDOW);
	for (i = 1; i < count; i++) {
		struct vm_fault next = {
			.vma = vma,
			.address = addr + i * PMD_SIZE,
			.flags = vmf->flags,
			.pmd = vmf->pmd + i,
		};

		if (!pmd_none(pmdp_get(next.pmd)) ||
		    udb_vmf_insert_pfn_pmd(&next, pfn + i * (PMD_SIZE >> PAGE_SHIFT),
					   vma->vm_flags & VM_WRITE) != VM_FAULT_NOPAGE)
			break;
	}
}

static vm_fault_t udb_insert_huge(struct vm_fault *vmf, const struct udb_memory *mem)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PMD_MASK;
	size_t offset;
	unsigned long pfn;
	vm_fault_t ret;

	if (!(vma->vm_flags & VM_PFNMAP) || addr < vma->vm_start ||
	    vma->vm_end - addr < PMD_SIZE)
		return VM_FAULT_FALLBACK;
	offset = ((size_t)vma->vm_pgoff << PAGE_SHIFT) + (addr - vma->vm_start);
	if (offset >= mem->size || udb_memory_contiguous(mem, offset) < PMD_SIZE)
		return VM_FAULT_FALLBACK;
	pfn = udb_memory_pfn(mem, offset);
	if (!IS_ALIGNED(pfn, PMD_SIZE >> PAGE_SHIFT))
		return VM_FAULT_FALLBACK;
	ret = udb_vmf_insert_pfn_pmd(vmf, pfn, vma->vm_flags & VM_WRITE);
	if (ret == VM_FAULT_NOPAGE)
		udb_insert_next_huge(vmf, mem, offset, pfn);
	return ret;
}

static vm_fault_t udb_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct udb_use *use = vmf->vma->vm_private_data;
	struct udb_buffer *buf = use->user->buf;
	vm_fault_t ret;

	if (order != PMD_ORDER)
		return VM_FAULT_FALLBACK;
	if (udb_enter(buf))
		return VM_FAULT_SIGBUS;
	ret = udb_insert_huge(vmf, &buf->memory);
	udb_leave(buf);
	return ret;
}
#endif

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
	/* Before another file can claim it, whose mapping has to know. */
	if (use->cached)
		udb_cache_used(use->user->buf);
	udb_use_end(use);
	kfree(use);
}

static const struct vm_operations_struct udb_vm_ops = {
	.open = udb_vma_open,
	.close = udb_vma_close,
	.fault = udb_fault,
#ifdef UDB_HAS_HUGE_PFNS
	.huge_fault = udb_huge_fault,
#endif
};

/* What a mapping of this file is to be: U_DMA_BUF_MAP_*, or this. */
#define UDB_MAP_COHERENT (U_DMA_BUF_MAP_WRITE_COMBINED + 1)

static unsigned int udb_map_mode(struct udb_file *user, unsigned int flags)
{
	static const unsigned int modes[] = {
		U_DMA_BUF_MAP_CACHED, U_DMA_BUF_MAP_UNCACHED,
		U_DMA_BUF_MAP_WRITE_COMBINED, UDB_MAP_COHERENT,
	};
	struct udb_buffer *buf = user->buf;
	unsigned int map = READ_ONCE(user->map_mode);
	unsigned int sync = udb_settings(buf).mode;

	if (map != U_DMA_BUF_MAP_BY_FLAGS)
		return map;
	/* Then the DMA API has the last word. */
	if (buf->mmap_mode == UDB_MMAP_OFF && !buf->coherent)
		return UDB_MAP_COHERENT;
	if ((sync & UDB_SYNC_MODE_ALWAYS) || (flags & O_DSYNC))
		return modes[sync & UDB_SYNC_MODE_MASK];
	return U_DMA_BUF_MAP_CACHED;
}

static pgprot_t udb_map_prot(unsigned int map, pgprot_t prot)
{
	switch (map) {
	case U_DMA_BUF_MAP_UNCACHED:
		return pgprot_noncached(prot);
	case U_DMA_BUF_MAP_WRITE_COMBINED:
		return pgprot_writecombine(prot);
	case UDB_MAP_COHERENT:
		return IS_ENABLED(CONFIG_ARM) ? pgprot_dmacoherent(prot) :
						pgprot_writecombine(prot);
	}
	return prot;
}

int udb_set_map_mode(struct udb_file *user, u64 mode)
{
	int ret = udb_check(user->buf);

	if (ret)
		return ret;
	if (mode > U_DMA_BUF_MAP_WRITE_COMBINED)
		return -EINVAL;
	if (mode == U_DMA_BUF_MAP_CACHED && user->buf->memory.uncached)
		return -EOPNOTSUPP;
	if (mode > U_DMA_BUF_MAP_CACHED && !udb_can_map_uncached(user->buf))
		return -EOPNOTSUPP;
	/* A coherent device looks into the cache, where an older line may still be. */
	if (mode > U_DMA_BUF_MAP_CACHED && user->buf->coherent && !user->buf->memory.uncached)
		return -EOPNOTSUPP;
	WRITE_ONCE(user->map_mode, mode);
	return 0;
}

/*
 * Large mappings where huge pages fit. Only here is seen that a mapping is to
 * be populated; if two at once are mistaken for each other, nothing breaks.
 */
unsigned long udb_get_unmapped_area(struct file *file, unsigned long addr, unsigned long len,
				    unsigned long pgoff, unsigned long flags)
{
	struct udb_file *user = file->private_data;

	WRITE_ONCE(user->populates, flags & (MAP_POPULATE | MAP_LOCKED));
	return udb_huge_unmapped_area(file, addr, len, pgoff, flags);
}

/*
 * Populating leaves out VM_IO and VM_PFNMAP. But those have madvise() not undo
 * VM_DONTCOPY, get_user_pages() refuse clearly, and huge pages.
 */
static unsigned long udb_vm_flags(struct udb_file *user)
{
	if (user->buf->mmap_mode == UDB_MMAP_PAGE)
		return VM_MIXEDMAP;
	if (UDB_CAN_POPULATE && READ_ONCE(user->populates))
		return VM_MIXEDMAP;
	return VM_IO | VM_PFNMAP;
}

int udb_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct udb_file *user = file->private_data;
	struct udb_buffer *buf = user->buf;
	unsigned long pages = PAGE_ALIGN(buf->size) >> PAGE_SHIFT;

	if (vma->vm_pgoff == pages)
		return udb_lent_mmap(user, vma);
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	/* A private mapping would copy on write, which the device never sees. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	return udb_mmap_use(user, file->f_flags, vma);
}

/* Of pages inside the buffer; the VMA holds user's file, which holds the buffer. */
int udb_mmap_use(struct udb_file *user, unsigned int flags, struct vm_area_struct *vma)
{
	unsigned int map = udb_map_mode(user, flags);
	struct udb_buffer *buf = user->buf;
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 size = vma->vm_end - vma->vm_start;
	struct udb_use *use;
	int ret;

	if (buf->memory.uncached && map == U_DMA_BUF_MAP_CACHED)
		map = UDB_MAP_COHERENT;
	use = kzalloc(sizeof(*use), GFP_KERNEL_ACCOUNT);
	if (!use)
		return -ENOMEM;
	use->cached = map == U_DMA_BUF_MAP_CACHED || !udb_can_map_uncached(buf);
	ret = udb_use_begin(use, user, offset, size);
	if (ret)
		goto err_free;
	if (use->cached) {
		udb_cache_used(buf);
	} else {
		ret = udb_empty_cache(user, offset, size);
		if (ret)
			goto err_use;
		vma->vm_page_prot = udb_map_prot(map, vma->vm_page_prot);
	}

	udb_vm_flags_set(vma, udb_vm_flags(user) | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	vma->vm_private_data = use;
	vma->vm_ops = &udb_vm_ops;
	return 0;

err_use:
	udb_use_end(use);
err_free:
	kfree(use);
	return ret;
}
