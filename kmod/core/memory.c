// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A buffer's memory: contiguous for the device, cached for the CPU, zeroed.
 * Without an IOMMU it is physically contiguous; with one it may be scattered.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>

#include "compat.h"
#include "udb.h"

/* The last segment that starts at or before offset. */
static unsigned int udb_segment_at(const struct udb_memory *mem, size_t offset)
{
	unsigned int low = 0, high = mem->nr_segments;

	while (high - low > 1) {
		unsigned int mid = low + (high - low) / 2;

		if (mem->segments[mid].offset <= offset)
			low = mid;
		else
			high = mid;
	}
	return low;
}

unsigned long udb_memory_pfn(const struct udb_memory *mem, size_t offset)
{
	const struct udb_segment *seg = &mem->segments[udb_segment_at(mem, offset)];

	return seg->pfn + ((offset - seg->offset) >> PAGE_SHIFT);
}

/* How many bytes from offset on are contiguous for the CPU. */
size_t udb_memory_contiguous(const struct udb_memory *mem, size_t offset)
{
	unsigned int next = udb_segment_at(mem, offset) + 1;

	return (next < mem->nr_segments ? mem->segments[next].offset : mem->size) - offset;
}

static int udb_memory_set_segments(struct udb_memory *mem)
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

/*
 * The memory-region property, if there is one. Only regions that the kernel
 * may use meanwhile (CMA) have pages that can be mapped cached.
 */
static int udb_region_init(struct device *dev, struct reserved_mem **region)
{
	struct device_node *node;
	int ret;

	*region = NULL;
	node = of_parse_phandle(dev->of_node, "memory-region", 0);
	if (!node) {
		if (!of_property_read_bool(dev->of_node, "memory-region"))
			return 0;
		dev_err(dev, "property memory-region: not a phandle\n");
		return -EINVAL;
	}

	if (!of_property_read_bool(node, "reusable")) {
		dev_err(dev, "property memory-region: %pOF is not reusable, which is not supported yet\n",
			node);
		ret = -EOPNOTSUPP;
		goto out;
	}
	*region = of_reserved_mem_lookup(node);
	ret = *region ? of_reserved_mem_device_init(dev) : -ENODEV;
	if (ret)
		dev_err(dev, "property memory-region: %pOF cannot be used: error %d\n",
			node, ret);
out:
	of_node_put(node);
	return ret;
}

/* A full region makes the allocator go elsewhere, silently. */
static bool udb_region_holds(const struct reserved_mem *region, const struct udb_memory *mem)
{
	size_t offset, len;

	for (offset = 0; offset < mem->size; offset += len) {
		phys_addr_t start = PFN_PHYS(udb_memory_pfn(mem, offset));

		len = udb_memory_contiguous(mem, offset);
		if (start < region->base || start - region->base >= region->size ||
		    len > region->size - (start - region->base))
			return false;
	}
	return true;
}

static void udb_explain_failure(struct device *dev, size_t size,
				const struct reserved_mem *region)
{
	unsigned long free_cma = global_zone_page_state(NR_FREE_CMA_PAGES);
	u64 mask = dma_get_mask(dev);

	if (size - 1 > mask) {
		dev_err(dev, "no memory: %zu bytes are more than a DMA mask of %d bits reaches; raise dma-mask or dma_mask_bit\n",
			size, fls64(mask));
	} else if (region && device_iommu_mapped(dev)) {
		dev_err(dev, "no memory: behind an IOMMU it does not come from memory-region %s; remove one of the two\n",
			region->name);
	} else if (region) {
		dev_err(dev, "no memory: memory-region %s (%pa bytes) has no %zu contiguous bytes left; raise its size\n",
			region->name, &region->size, size);
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

int udb_memory_alloc(struct device *dev, struct udb_memory *mem, size_t size)
{
	struct reserved_mem *region;
	int ret;

	ret = udb_region_init(dev, &region);
	if (ret)
		return ret;

	mem->size = PAGE_ALIGN(size);
	/* What can never be had is not asked for: the allocators would warn. */
	if (mem->size - 1 <= dma_get_mask(dev) && mem->size >> PAGE_SHIFT <= totalram_pages())
		mem->sgt = dma_alloc_noncontiguous(dev, mem->size, DMA_BIDIRECTIONAL,
						   GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN, 0);
	if (!mem->sgt) {
		udb_explain_failure(dev, mem->size, region);
		ret = -ENOMEM;
		goto err_region;
	}

	ret = udb_memory_set_segments(mem);
	if (ret)
		goto err_memory;
	if (region && !udb_region_holds(region, mem)) {
		udb_explain_failure(dev, mem->size, region);
		ret = -ENOMEM;
		goto err_memory;
	}
	return 0;

err_memory:
	udb_memory_free(dev, mem);
	return ret;
err_region:
	of_reserved_mem_device_release(dev);
	return ret;
}

/* A mapping for the kernel, to be ended with vunmap(), or NULL. */
void *udb_memory_vmap(const struct udb_memory *mem, size_t offset, size_t size)
{
	size_t i, count = size >> PAGE_SHIFT;
	struct page **pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	void *vaddr;

	if (!pages)
		return NULL;
	for (i = 0; i < count; i++)
		pages[i] = pfn_to_page(udb_memory_pfn(mem, offset + (i << PAGE_SHIFT)));
	vaddr = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return vaddr;
}

void udb_memory_free(struct device *dev, struct udb_memory *mem)
{
	dma_free_noncontiguous(dev, mem->size, mem->sgt, DMA_BIDIRECTIONAL);
	kvfree(mem->segments);
	of_reserved_mem_device_release(dev);
}
