// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Handing ranges to the device and to the CPU. A request becomes a struct
 * udb_sync_settings of its own, checked once; nothing shared is read after that.
 */
#include <linux/dma-mapping.h>
#include <linux/minmax.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#include "udb.h"

/* Cache maintenance without a pause: about a millisecond. */
#define UDB_SYNC_CHUNK SZ_4M

/*
 * Whole pages belong to the buffer, as they do for mmap: a sync value, which
 * counts in sixteens, could not name all of another size.
 */
bool udb_range_ok(u64 buffer_size, u64 offset, u64 size)
{
	u64 end = PAGE_ALIGN(buffer_size);

	return offset <= end && size <= end - offset;
}

struct udb_sync_settings udb_settings(struct udb_buffer *buf)
{
	struct udb_sync_settings sync;

	spin_lock(&buf->lock);
	sync = buf->sync;
	spin_unlock(&buf->lock);
	return sync;
}

/*
 * Not beyond the end. One DMA address may stand for scattered memory. What has
 * no cache needs nothing, and may have no struct page for the DMA API to look at.
 */
static void udb_sync_chunk(struct udb_buffer *buf, size_t offset, size_t size,
			   enum dma_data_direction dir, bool for_device)
{
	if (buf->memory.uncached)
		return;
	while (size) {
		size_t len = min(size, udb_memory_contiguous(&buf->memory, offset));
		dma_addr_t addr = buf->memory.dma_addr + offset;

		if (for_device)
			dma_sync_single_for_device(buf->dev, addr, len, dir);
		else
			dma_sync_single_for_cpu(buf->dev, addr, len, dir);
		offset += len;
		size -= len;
	}
}

/* The range has to be inside the buffer. The owner is not touched. */
int udb_sync_memory(struct udb_buffer *buf, u64 offset, u64 size,
		    enum dma_data_direction dir, bool for_device)
{
	for (;;) {
		size_t len = min_t(u64, size, UDB_SYNC_CHUNK);
		int ret = udb_enter(buf);

		if (ret)
			return ret;
		udb_sync_chunk(buf, offset, len, dir, for_device);
		udb_leave(buf);

		offset += len;
		size -= len;
		if (!size)
			return 0;
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	}
}

/*
 * Remembered before it happens, so that a user who dies half way leaves the
 * device as the owner.
 */
static int udb_sync_for_device(struct udb_buffer *buf,
			       const struct udb_sync_settings *range)
{
	spin_lock(&buf->lock);
	buf->owner = U_DMA_BUF_OWNER_DEVICE;
	if (check_add_overflow(buf->lent, range->size, &buf->lent))
		buf->lent = U64_MAX;
	spin_unlock(&buf->lock);

	return udb_sync_memory(buf, range->offset, range->size, range->direction, true);
}

/* Of a claimed buffer, other parts may still be at the device. */
static int udb_sync_for_cpu(struct udb_buffer *buf,
			    const struct udb_sync_settings *range)
{
	bool whole = range->offset == 0 && range->size >= buf->size;
	int ret;

	ret = udb_sync_memory(buf, range->offset, range->size, range->direction, false);
	if (ret)
		return ret;

	spin_lock(&buf->lock);
	if (buf->claimant && !whole)
		buf->lent -= min(buf->lent, range->size);
	else
		buf->lent = 0;
	if (!buf->lent)
		buf->owner = U_DMA_BUF_OWNER_CPU;
	spin_unlock(&buf->lock);
	return 0;
}

static int udb_sync(struct udb_buffer *buf, const struct udb_sync_settings *range,
		    bool for_device)
{
	return for_device ? udb_sync_for_device(buf, range) : udb_sync_for_cpu(buf, range);
}

/* The sync value of the header and of sysfs. */
int udb_sync_value(struct udb_buffer *buf, u64 value, bool for_device)
{
	struct udb_sync_settings range = udb_settings(buf);

	if (!value)
		return udb_check(buf);
	if (value != 1) {
		range.offset = value >> 32;
		range.size = value & 0xfffffff0;
		range.direction = (value >> 2) & 3;
		if (range.direction == 3)
			range.direction = DMA_BIDIRECTIONAL;
	}
	if (!udb_range_ok(buf->size, range.offset, range.size))
		return -EINVAL;
	return udb_sync(buf, &range, for_device);
}

/* SET_SYNC: stores and runs, or does neither. */
int udb_set_sync(struct udb_buffer *buf, const struct u_dma_buf_sync_args *args)
{
	unsigned int command = args->flags & U_DMA_BUF_SYNC_COMMAND;
	unsigned int direction = (args->flags >> U_DMA_BUF_SYNC_DIRECTION_SHIFT) & 3;
	unsigned int mode = (args->flags >> U_DMA_BUF_SYNC_MODE_SHIFT) & 0xff;
	bool run = command == U_DMA_BUF_SYNC_FOR_CPU || command == U_DMA_BUF_SYNC_FOR_DEVICE;
	struct udb_sync_settings sync;

	if (mode > UDB_SYNC_MODE_MAX)
		return -EINVAL;

	spin_lock(&buf->lock);
	sync = buf->sync;
	sync.offset = args->offset;
	if (direction != 3)
		sync.direction = direction;
	if (args->size)
		sync.size = args->size;
	if (mode)
		sync.mode = mode;
	if (run && !udb_range_ok(buf->size, sync.offset, sync.size)) {
		spin_unlock(&buf->lock);
		return -EINVAL;
	}
	buf->sync = sync;
	spin_unlock(&buf->lock);

	if (!run)
		return udb_check(buf);
	return udb_sync(buf, &sync, command == U_DMA_BUF_SYNC_FOR_DEVICE);
}

void udb_get_sync(struct udb_buffer *buf, struct u_dma_buf_sync_args *args)
{
	spin_lock(&buf->lock);
	args->offset = buf->sync.offset;
	args->size = buf->sync.size;
	args->flags = (u64)buf->sync.direction << U_DMA_BUF_SYNC_DIRECTION_SHIFT |
		      (u64)buf->sync.mode << U_DMA_BUF_SYNC_MODE_SHIFT |
		      (buf->owner == U_DMA_BUF_OWNER_DEVICE ? U_DMA_BUF_SYNC_OWNER : 0);
	spin_unlock(&buf->lock);
}
