// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Mappings without the CPU's cache, of memory that has been used through it: what
 * is left in the cache would be missed by the new mapping, or be written back later
 * over what came through it or from the device. So the cache is emptied first,
 * unless nobody used it since it last was.
 *
 * A cached mapping counts as a use when it is made and when it ends: what it leaves
 * in the cache in between, beside a mapping without, is its programs' to sync.
 */
#include <linux/atomic.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "trace.h"
#include "udb.h"

#ifdef CONFIG_ARM64
#include <asm/cpufeature.h>

/* Cleans and invalidates, also for a coherent device, whose sync does nothing. */
static void udb_empty_lines(void *start, size_t len)
{
	u64 ctr = read_sanitised_ftr_reg(SYS_CTR_EL0);
	unsigned long line = 4UL << ((ctr >> 16) & 0xf);	/* DminLine */
	unsigned long addr = ALIGN_DOWN((unsigned long)start, line);

	for (; addr < (unsigned long)start + len; addr += line)
		asm volatile("dc civac, %0" : : "r" (addr) : "memory");
	dsb(sy);
}
#else
static void udb_empty_lines(void *start, size_t len)
{
}
#endif

/*
 * x86 does not map RAM in two ways, and RISC-V without Svpbmt has one type of
 * mapping. Elsewhere the cache has to be emptied first, which a coherent device's
 * sync does not do.
 */
bool udb_can_map_uncached(struct udb_buffer *buf)
{
	pgprot_t cached = PAGE_KERNEL;

	if (IS_ENABLED(CONFIG_X86))
		return false;
	/* Then the memory itself has no cache, whatever a mapping can say. */
	if (buf->memory.uncached)
		return true;
	if (pgprot_val(pgprot_noncached(cached)) == pgprot_val(cached))
		return false;
	return !buf->coherent || IS_ENABLED(CONFIG_ARM64);
}

/* For a mapping of the range, which others cannot claim any more. */
int udb_empty_cache(struct udb_file *user, u64 offset, u64 size)
{
	struct udb_buffer *buf = user->buf;
	int uses = atomic_read(&buf->cache_uses);
	int ret;

	if (buf->memory.uncached || READ_ONCE(buf->cache_emptied) == uses)
		return 0;
	/* Loses nothing of what others write meanwhile. */
	if (IS_ENABLED(CONFIG_ARM64))
		ret = udb_memory_walk(buf, offset, size, udb_empty_lines);
	else
		ret = udb_sync_reader(buf, user, offset, size);
	if (ret)
		return ret;
	trace_u_dma_buf_empty_cache(buf->minor, size, buf->memory.dma_addr + offset);
	if (size == buf->memory.size)
		WRITE_ONCE(buf->cache_emptied, uses);
	return 0;
}
