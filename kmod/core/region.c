// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The property memory-region. What the kernel may use meanwhile (reusable, CMA)
 * has pages and is allocated like other memory. What it may not even map
 * (no-map) is reached without cache only.
 */
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/slab.h>

#include "udb.h"

static int udb_region_check(struct udb_buffer *buf, const struct udb_spec *spec,
			    const struct device_node *node)
{
	const char *wrong = NULL;

	if (buf->parent)
		wrong = "goes with no bind: it would not be the parent's";
	else if (of_property_read_bool(node, "reusable"))
		return 0;
	else if (!of_property_read_bool(node, "no-map"))
		wrong = "is neither reusable nor no-map";
	else if (device_iommu_mapped(buf->dev))
		wrong = "is no-map, and behind an IOMMU, which does not map it";
	else if (buf->mmap_mode == UDB_MMAP_PAGE)
		wrong = "is no-map: it has no pages for quirk-mmap-page";
	if (!wrong)
		return 0;
	dev_err(buf->own, "property memory-region: %pOF %s\n", node, wrong);
	return -EOPNOTSUPP;
}

/* *region is set on success; if its memory is then kept, it is not ours yet. */
int udb_region_init(struct udb_buffer *buf, const struct udb_spec *spec,
		    struct udb_region *region)
{
	struct device *own = buf->own;
	struct device_node *node;
	int ret;

	*region = (struct udb_region){ };
	node = of_parse_phandle(own->of_node, "memory-region", 0);
	if (!node && of_property_read_bool(own->of_node, "memory-region")) {
		dev_err(own, "property memory-region: not a phandle\n");
		return -EINVAL;
	}
	if (node) {
		ret = udb_region_check(buf, spec, node);
		if (ret)
			goto out;
		region->no_map = of_property_read_bool(node, "no-map");
		region->mem = of_reserved_mem_lookup(node);
	}
	if (spec->keep_contents && !region->no_map) {
		dev_err(own, "property keep-contents: only a memory-region with no-map keeps them, other memory is everybody's in between\n");
		ret = -EOPNOTSUPP;
		goto out;
	}
	ret = 0;
	if (!node)
		goto out;
	if (!region->mem)
		ret = -ENODEV;
	else if (!spec->keep_contents)
		ret = of_reserved_mem_device_init(own);
	if (ret)
		dev_err(own, "property memory-region: %pOF cannot be used: error %d\n",
			node, ret);
out:
	of_node_put(node);
	return ret;
}

/* Also if there is none. */
void udb_region_exit(struct udb_buffer *buf)
{
	of_reserved_mem_device_release(buf->own);
}

/* The region from its start, as it is: the DMA API would zero it. */
static int udb_region_keep(struct udb_buffer *buf, const struct reserved_mem *region)
{
	struct udb_memory *mem = &buf->memory;
	int ret;

	mem->kind = UDB_MEMORY_KEPT;
	mem->dma_addr = phys_to_dma(buf->dev, region->base);
	if (mem->size > region->size || !dma_capable(buf->dev, mem->dma_addr, mem->size, false))
		return -ENOMEM;
	if (!request_mem_region(region->base, mem->size, UDB_NAME)) {
		dev_err(buf->own, "property keep-contents: memory-region %s is in use\n",
			region->name);
		return -EBUSY;
	}
	ret = -ENOMEM;
	mem->uncached = memremap(region->base, mem->size, MEMREMAP_WC);
	if (!mem->uncached)
		goto err_request;
	ret = udb_memory_set_block(mem, region->base);
	if (ret)
		goto err_map;
	return 0;

err_map:
	memunmap(mem->uncached);
err_request:
	release_mem_region(region->base, mem->size);
	return ret;
}

/* Of kept memory. */
void udb_region_free(struct udb_buffer *buf)
{
	struct udb_memory *mem = &buf->memory;

	memunmap(mem->uncached);
	release_mem_region(PFN_PHYS(mem->segments[0].pfn), mem->size);
}

/* From a no-map region. */
int udb_region_alloc(struct udb_buffer *buf, const struct udb_spec *spec,
		     const struct udb_region *region)
{
	struct udb_memory *mem = &buf->memory;
	int ret;

	if (spec->keep_contents)
		return udb_region_keep(buf, region->mem);

	mem->uncached = dma_alloc_attrs(buf->dev, mem->size, &mem->dma_addr,
					GFP_KERNEL | __GFP_NOWARN, DMA_ATTR_WRITE_COMBINE);
	if (!mem->uncached)
		return -ENOMEM;
	mem->kind = UDB_MEMORY_COHERENT;
	ret = udb_memory_set_block(mem, dma_to_phys(buf->dev, mem->dma_addr));
	if (ret)
		goto err_memory;
	if (!udb_region_holds(region, mem)) {
		ret = -ENOMEM;
		goto err_segments;
	}
	return 0;

err_segments:
	kfree(mem->segments);
	mem->segments = NULL;
err_memory:
	dma_free_attrs(buf->dev, mem->size, mem->uncached, mem->dma_addr,
		       DMA_ATTR_WRITE_COMBINE);
	return ret;
}

bool udb_region_holds(const struct udb_region *region, const struct udb_memory *mem)
{
	phys_addr_t base = region->mem->base, size = region->mem->size;
	size_t offset, len;

	for (offset = 0; offset < mem->size; offset += len) {
		phys_addr_t start = PFN_PHYS(udb_memory_pfn(mem, offset));

		len = udb_memory_contiguous(mem, offset);
		if (start < base || start - base >= size || len > size - (start - base))
			return false;
	}
	return true;
}
