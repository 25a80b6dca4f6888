// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A buffer's memory for the CPU: which pages it has, and how the kernel reaches them. */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

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

/*
 * Where the kernel reads and writes it, and in *len how much of it, which is at
 * least the rest of the page. In between, no sleep.
 */
void *udb_memory_map(const struct udb_memory *mem, size_t offset, size_t *len)
{
	struct page *page;

	if (mem->uncached) {
		*len = mem->size - offset;
		return mem->uncached + offset;
	}
	page = pfn_to_page(udb_memory_pfn(mem, offset));
	if (PageHighMem(page)) {
		*len = PAGE_SIZE - offset_in_page(offset);
		return udb_kmap(page) + offset_in_page(offset);
	}
	*len = udb_memory_contiguous(mem, offset);
	return page_address(page) + offset_in_page(offset);
}

void udb_memory_unmap(const struct udb_memory *mem, size_t offset, void *start)
{
	if (!mem->uncached && PageHighMem(pfn_to_page(udb_memory_pfn(mem, offset))))
		udb_kunmap(start - offset_in_page(offset));
}

/* A range in pieces. For what may take long: between two, others come in. */
int udb_memory_walk(struct udb_buffer *buf, size_t offset, size_t size,
		    void (*visit)(void *start, size_t len))
{
	size_t len;

	for (; size; offset += len, size -= len) {
		int ret = udb_enter(buf);
		void *start;

		if (ret)
			return ret;
		start = udb_memory_map(&buf->memory, offset, &len);
		len = min3(len, size, (size_t)SZ_4M);
		visit(start, len);
		udb_memory_unmap(&buf->memory, offset, start);
		udb_leave(buf);
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static void udb_zero_piece(void *start, size_t len)
{
	memset(start, 0, len);
}

/* For the CPU and the device. */
int udb_memory_zero(struct udb_buffer *buf)
{
	int ret = udb_memory_walk(buf, 0, buf->memory.size, udb_zero_piece);

	/* The zeros are in the cache, which mappings without it have to know. */
	udb_cache_used(buf);
	if (ret)
		return ret;
	return udb_sync_memory(buf, NULL, 0, buf->memory.size, DMA_BIDIRECTIONAL, true);
}

/* A mapping for the kernel, to be ended with udb_memory_vunmap(), or NULL. */
void *udb_memory_vmap(const struct udb_memory *mem, size_t offset, size_t size)
{
	size_t i, count = size >> PAGE_SHIFT;
	struct page **pages;
	void *vaddr;

	if (mem->uncached)
		return mem->uncached + offset;
	pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	for (i = 0; i < count; i++)
		pages[i] = pfn_to_page(udb_memory_pfn(mem, offset + (i << PAGE_SHIFT)));
	vaddr = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return vaddr;
}

void udb_memory_vunmap(const struct udb_memory *mem, void *vaddr)
{
	if (!mem->uncached)
		vunmap(vaddr);
}
