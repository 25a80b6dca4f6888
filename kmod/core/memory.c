// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Getting a buffer's memory, and giving it back: contiguous for the device, zeroed.
 * Without an IOMMU it is physically contiguous; with one it may be scattered.
 */
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/of_reserved_mem.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "compat.h"
#include "udb.h"

/*
 * Not from CMA, if it can be had elsewhere: CMA takes and gives back whole
 * pageblocks, which costs more than all else there is to making such a buffer.
 */
#define UDB_SMALL SZ_64K

/* Of memory in one piece. */
int udb_memory_set_block(struct udb_memory *mem, phys_addr_t start)
{
	mem->segments = kmalloc(sizeof(*mem->segments), GFP_KERNEL);
	if (!mem->segments)
		return -ENOMEM;
	mem->nr_segments = 1;
	mem->segments[0].offset = 0;
	mem->segments[0].pfn = PHYS_PFN(start);
	return 0;
}

static int udb_memory_set_scattered(struct udb_memory *mem)
{
	struct sg_table *sgt = mem->sgt;
	struct scatterlist *sg;
	size_t offset = 0;
	unsigned int i;

	mem->segments = kvmalloc_array(sgt->orig_nents, sizeof(*mem->segments), GFP_KERNEL);
	if (!mem->segments)
		return -ENOMEM;
	mem->nr_segments = sgt->orig_nents;
	mem->dma_addr = sg_dma_address(sgt->sgl);

	/*
	 * The length of an only entry is cut to 32 bits and not looked at. An
	 * IOMMU with larger pages than the CPU's rounds the last one up.
	 */
	for_each_sgtable_sg(sgt, sg, i) {
		mem->segments[i].offset = offset;
		mem->segments[i].pfn = page_to_pfn(sg_page(sg));
		offset += sg->length;
	}
	if (mem->nr_segments > 1 && offset < mem->size)
		return -EIO;
	return 0;
}

static void udb_release_memory(struct device *dev, struct udb_memory *mem)
{
	switch (mem->kind) {
	case UDB_MEMORY_SCATTERED:
		udb_free_noncontiguous(dev, mem->size, mem->sgt);
		break;
	case UDB_MEMORY_BLOCK:
		dma_free_pages(dev, mem->size, pfn_to_page(mem->segments[0].pfn), mem->dma_addr,
			       DMA_BIDIRECTIONAL);
		break;
	case UDB_MEMORY_PAGES:
		dma_unmap_page_attrs(dev, mem->dma_addr, mem->size, DMA_BIDIRECTIONAL,
				     DMA_ATTR_SKIP_CPU_SYNC);
		/* Who has pinned a page keeps it. */
		free_pages_exact(pfn_to_kaddr(mem->segments[0].pfn), mem->size);
		break;
	case UDB_MEMORY_COHERENT:
		dma_free_attrs(dev, mem->size, mem->uncached, mem->dma_addr,
			       DMA_ATTR_WRITE_COMBINE);
		break;
	case UDB_MEMORY_KEPT:
		break;
	}
	kvfree(mem->segments);
	mem->segments = NULL;
}

/* An IOMMU makes scattered pages contiguous. */
static int udb_alloc_scattered(struct device *dev, struct udb_memory *mem)
{
	int ret;

	mem->sgt = udb_alloc_noncontiguous(dev, mem->size);
	if (!mem->sgt)
		return -ENOMEM;
	mem->kind = UDB_MEMORY_SCATTERED;
	ret = udb_memory_set_scattered(mem);
	if (ret)
		udb_release_memory(dev, mem);
	return ret;
}

/* In one piece, which for a size of 4 GiB or more debugging, too, understands. */
static int udb_alloc_block(struct device *dev, struct udb_memory *mem)
{
	struct page *page;
	int ret;

	page = dma_alloc_pages(dev, mem->size, &mem->dma_addr, DMA_BIDIRECTIONAL,
			       GFP_KERNEL | __GFP_NOWARN);
	if (!page)
		return -ENOMEM;
	/* Never so; but debugging wants each mapping to be asked. */
	if (dma_mapping_error(dev, mem->dma_addr))
		return -EIO;
	mem->kind = UDB_MEMORY_BLOCK;
	ret = udb_memory_set_block(mem, page_to_phys(page));
	if (ret)
		dma_free_pages(dev, mem->size, page, mem->dma_addr, DMA_BIDIRECTIONAL);
	return ret;
}

/* Does an IOMMU translate its addresses? It may also pass them through. */
static bool udb_translated(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	return device_iommu_mapped(dev) && (!domain || domain->type != IOMMU_DOMAIN_IDENTITY);
}

/* Pages of the page allocator's, from a zone that the device reaches. */
static int udb_alloc_pages_of(struct device *dev, struct udb_memory *mem, gfp_t zone)
{
	bool direct = !udb_translated(dev);
	phys_addr_t start;
	int ret = -ENOMEM;
	void *pages;

	pages = alloc_pages_exact(mem->size, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | zone);
	if (!pages)
		return -ENOMEM;
	start = virt_to_phys(pages);
	if (direct && !dma_capable(dev, phys_to_dma(dev, start), mem->size, true))
		goto err_pages;

	/* Synced when all is made, as other memory. */
	mem->dma_addr = dma_map_page_attrs(dev, virt_to_page(pages), 0, mem->size,
					   DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
	if (dma_mapping_error(dev, mem->dma_addr))
		goto err_pages;
	/* A bounce buffer is not this memory. */
	if (direct && mem->dma_addr != phys_to_dma(dev, start))
		goto err_map;
	/* What dma_alloc_*() keeps to may be less than what mappings do. */
	if (mem->dma_addr + (mem->size - 1) > dev->coherent_dma_mask)
		goto err_map;
	mem->kind = UDB_MEMORY_PAGES;
	ret = udb_memory_set_block(mem, start);
	if (ret)
		goto err_map;
	return 0;

err_map:
	dma_unmap_page_attrs(dev, mem->dma_addr, mem->size, DMA_BIDIRECTIONAL,
			     DMA_ATTR_SKIP_CPU_SYNC);
err_pages:
	free_pages_exact(pages, mem->size);
	return ret;
}

static int udb_alloc_pages(struct device *dev, struct udb_memory *mem)
{
	u64 mask = min(dma_get_mask(dev), dev->coherent_dma_mask);
	gfp_t zone = mask <= DMA_BIT_MASK(32) ? GFP_DMA32 : 0;

	if (mem->size > UDB_MAX_BLOCK)
		return -ENOMEM;
	if (udb_alloc_pages_of(dev, mem, zone))
		return udb_alloc_pages_of(dev, mem, GFP_DMA);
	return 0;
}

/*
 * With CMA in high memory nothing else gives a large block; and who has to map
 * it without the CPU's cache, can.
 */
static int udb_alloc_highmem(struct device *dev, struct udb_memory *mem)
{
	int ret;

	mem->uncached = dma_alloc_attrs(dev, mem->size, &mem->dma_addr,
					GFP_KERNEL | __GFP_NOWARN, DMA_ATTR_WRITE_COMBINE);
	if (!mem->uncached)
		return -ENOMEM;
	mem->kind = UDB_MEMORY_COHERENT;
	ret = udb_memory_set_block(mem, dma_to_phys(dev, mem->dma_addr));
	if (ret)
		udb_release_memory(dev, mem);
	return ret;
}

/* Has each page a reference, as get_user_pages() needs? */
static bool udb_pages_counted(const struct udb_memory *mem)
{
	size_t offset;

	for (offset = 0; offset < mem->size; offset += PAGE_SIZE)
		if (!page_count(pfn_to_page(udb_memory_pfn(mem, offset))))
			return false;
	return true;
}

static int udb_alloc_cached(struct udb_buffer *buf, const struct udb_region *region)
{
	bool counted = buf->mmap_mode == UDB_MMAP_PAGE;
	struct udb_memory *mem = &buf->memory;
	struct device *dev = buf->dev;
	/* A parent's segments are limited, which a large allocation exceeds. */
	bool scatter = udb_translated(dev);
	int ret = -ENOMEM;

	/* What can never be had is not asked for: the allocators would warn. */
	if (mem->size - 1 > dma_get_mask(dev) || mem->size >> PAGE_SHIFT > totalram_pages())
		return -ENOMEM;

	if (scatter && !buf->parent)
		ret = udb_alloc_scattered(dev, mem);
	if (ret && !region->mem && (counted || mem->size <= UDB_SMALL))
		ret = udb_alloc_pages(dev, mem);
	if (ret)
		ret = udb_alloc_block(dev, mem);
	if (ret && scatter && buf->parent)
		ret = udb_alloc_scattered(dev, mem);
	if (ret && IS_ENABLED(CONFIG_HIGHMEM) && !scatter && !counted)
		ret = udb_alloc_highmem(dev, mem);
	if (ret)
		return ret;

	/* A full region makes the allocator go elsewhere, silently. */
	if ((counted && !udb_pages_counted(mem)) ||
	    (region->mem && !udb_region_holds(region, mem))) {
		udb_release_memory(dev, mem);
		return -ENOMEM;
	}
	return 0;
}

static void udb_explain_failure(struct udb_buffer *buf, const struct udb_region *region)
{
	unsigned long free_cma = global_zone_page_state(NR_FREE_CMA_PAGES);
	const struct reserved_mem *mem = region->mem;
	u64 mask = dma_get_mask(buf->dev);
	size_t size = buf->memory.size;
	struct device *dev = buf->own;

	if (size - 1 > mask) {
		dev_err(dev, "no memory: %zu bytes are more than a DMA mask of %d bits reaches; raise dma-mask or dma_mask_bit\n",
			size, fls64(mask));
	} else if (mem && device_iommu_mapped(buf->dev)) {
		dev_err(dev, "no memory: behind an IOMMU it does not come from memory-region %s; remove one of the two\n",
			mem->name);
	} else if (mem) {
		dev_err(dev, "no memory: memory-region %s (%pa bytes) has no %zu contiguous bytes left; raise its size\n",
			mem->name, &mem->size, size);
	} else if (size >> PAGE_SHIFT > totalram_pages()) {
		dev_err(dev, "no memory: %zu bytes are more than this machine has (%lu KiB)\n",
			size, totalram_pages() << (PAGE_SHIFT - 10));
	} else if (size > UDB_MAX_BLOCK) {
		dev_err(dev, "no memory: %zu contiguous bytes are more than the page allocator's largest block (%lu bytes), and contiguous memory (CMA, %lu KiB free) had none within %d bits; raise cma= on the kernel command line, give the node a memory-region, or raise the mask\n",
			size, UDB_MAX_BLOCK, free_cma << (PAGE_SHIFT - 10), fls64(mask));
	} else {
		dev_err(dev, "no memory: %zu contiguous bytes were not free within a DMA mask of %d bits (contiguous memory, CMA: %lu KiB free); create the buffer earlier, raise cma= on the kernel command line, or raise the mask\n",
			size, fls64(mask), free_cma << (PAGE_SHIFT - 10));
	}
}

/* A parent's mask may be wider than what was asked for. */
static int udb_check_reach(struct udb_buffer *buf, const struct udb_spec *spec)
{
	u64 end = (u64)buf->memory.dma_addr + (buf->memory.size - 1);

	if (!spec->dma_mask_bits || end <= DMA_BIT_MASK(spec->dma_mask_bits))
		return 0;
	dev_err(buf->own, "no memory: its end at 0x%llx is beyond a mask of %u bits, and the DMA mask of %s is wider\n",
		end, spec->dma_mask_bits, dev_name(buf->dev));
	return -ENOMEM;
}

int udb_memory_alloc(struct udb_buffer *buf, const struct udb_spec *spec)
{
	struct udb_memory *mem = &buf->memory;
	struct udb_region region;
	int ret;

	mem->size = PAGE_ALIGN(buf->size);
	ret = udb_region_init(buf, spec, &region);
	if (ret)
		return ret;
	ret = region.no_map ? udb_region_alloc(buf, spec, &region) :
			      udb_alloc_cached(buf, &region);
	if (ret) {
		if (ret == -ENOMEM)
			udb_explain_failure(buf, &region);
		goto err_region;
	}
	mem->synced = !mem->uncached && dma_need_sync(buf->dev, mem->dma_addr);
	ret = udb_check_reach(buf, spec);
	if (ret)
		goto err_memory;
	/* It was zeroed through the cache. */
	ret = udb_sync_memory(buf, NULL, 0, mem->size, DMA_BIDIRECTIONAL, true);
	if (ret)
		goto err_memory;
	return 0;

err_memory:
	udb_memory_free(buf);
	return ret;
err_region:
	udb_region_exit(buf);
	return ret;
}

/*
 * The block goes back as a whole. Pages of it that others have pinned, which is
 * possible in mode page alone, are waited for.
 */
static void udb_wait_page_refs(struct udb_buffer *buf)
{
	struct udb_memory *mem = &buf->memory;
	bool told = false;
	size_t offset = 0;

	while (offset < mem->size) {
		if (page_count(pfn_to_page(udb_memory_pfn(mem, offset))) <= 1) {
			offset += PAGE_SIZE;
			continue;
		}
		if (!told)
			dev_warn(buf->own, "waits for who has pinned the buffer's pages: direct I/O, sockets or io_uring of its users\n");
		told = true;
		msleep(100);
	}
}

void udb_memory_free(struct udb_buffer *buf)
{
	if (buf->mmap_mode == UDB_MMAP_PAGE && buf->memory.kind == UDB_MEMORY_BLOCK)
		udb_wait_page_refs(buf);
	if (buf->memory.kind == UDB_MEMORY_KEPT)
		udb_region_free(buf);
	udb_release_memory(buf->dev, &buf->memory);
	udb_region_exit(buf);
}
