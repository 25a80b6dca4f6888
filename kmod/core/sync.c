// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Handing ranges to the device and to the CPU. A request becomes ranges of its
 * own, checked once; nothing shared is read after that. No lock is held but
 * buf->life for reading, and that not for long: callers do not wait for each
 * other.
 */
#include <linux/dma-mapping.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#include "trace.h"
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
		/* Most memory is in one piece. */
		size_t len = buf->memory.nr_segments == 1 ? size :
			     min(size, udb_memory_contiguous(&buf->memory, offset));
		dma_addr_t addr = buf->memory.dma_addr + offset;

		if (for_device)
			dma_sync_single_for_device(buf->dev, addr, len, dir);
		else
			dma_sync_single_for_cpu(buf->dev, addr, len, dir);
		offset += len;
		size -= len;
	}
}

/* A batch under way. */
struct udb_sync_run {
	struct udb_buffer *buf;
	struct udb_file *user;		/* NULL: nobody that could have a claim */
	const struct u_dma_buf_sync_range *ranges;
	unsigned int count;
	size_t budget;			/* bytes until the next pause */
};

/* Enters. */
static int udb_run_enter(struct udb_sync_run *run)
{
	unsigned int i;
	int ret = udb_enter(run->buf);

	if (ret)
		return ret;
	run->budget = UDB_SYNC_CHUNK;
	if (likely(!run->buf->range_claims))
		return 0;
	for (i = 0; i < run->count; i++) {
		ret = udb_check_claims(run->buf, run->user, run->ranges[i].offset,
				       run->ranges[i].size);
		if (ret) {
			udb_leave(run->buf);
			return ret;
		}
	}
	return 0;
}

/* Lets others in. Having failed, it has left. */
static int udb_run_pause(struct udb_sync_run *run)
{
	udb_leave(run->buf);
	cond_resched();
	if (fatal_signal_pending(current))
		return -EINTR;
	return udb_run_enter(run);
}

/* Having failed, it has left. */
static int udb_run_range(struct udb_sync_run *run, const struct u_dma_buf_sync_range *range)
{
	bool for_device = range->command == U_DMA_BUF_SYNC_FOR_DEVICE;
	u64 offset = range->offset, size = range->size;

	if (for_device)
		trace_u_dma_buf_sync_for_device(run->buf->minor, offset, size, range->direction);
	else
		trace_u_dma_buf_sync_for_cpu(run->buf->minor, offset, size, range->direction);
	for (;;) {
		size_t len = min_t(u64, size, run->budget);
		int ret;

		udb_sync_chunk(run->buf, offset, len, range->direction, for_device);
		run->budget -= len;
		offset += len;
		size -= len;
		if (!size)
			return 0;
		ret = udb_run_pause(run);
		if (ret)
			return ret;
	}
}

/* The ranges in a row that go the same way. Having failed, it has left. */
static int udb_run_same(struct udb_sync_run *run, const struct u_dma_buf_sync_range *ranges,
			unsigned int count)
{
	bool for_device = ranges->command == U_DMA_BUF_SYNC_FOR_DEVICE;
	struct udb_buffer *buf = run->buf;
	bool whole = false;
	unsigned int i;
	u64 bytes = 0;

	/* Inside the buffer and few, so the sum does not wrap. */
	for (i = 0; i < count; i++) {
		whole |= !ranges[i].offset && ranges[i].size >= buf->size;
		bytes += ranges[i].size;
	}

	if (for_device)
		udb_lend(buf, run->user, bytes);
	for (i = 0; i < count; i++) {
		int ret = udb_run_range(run, &ranges[i]);

		if (ret)
			return ret;
	}
	/* All at once takes back all that there is. */
	if (!for_device)
		udb_take_back(buf, run->user, whole ? U64_MAX : bytes);
	udb_count_syncs(buf, for_device, count, bytes);
	return 0;
}

/* Of ranges that are in order. */
static int udb_sync_ranges(struct udb_sync_run *run)
{
	unsigned int i, same;
	int ret;

	ret = udb_run_enter(run);
	if (ret)
		return ret;
	for (i = 0; i < run->count; i += same) {
		const struct u_dma_buf_sync_range *first = &run->ranges[i];

		for (same = 1; i + same < run->count; same++)
			if (first[same].command != first->command)
				break;
		ret = udb_run_same(run, first, same);
		if (ret)
			return ret;
	}
	udb_leave(run->buf);
	return 0;
}

static bool udb_sync_range_ok(struct udb_buffer *buf, const struct u_dma_buf_sync_range *range)
{
	return (range->command == U_DMA_BUF_SYNC_FOR_CPU ||
		range->command == U_DMA_BUF_SYNC_FOR_DEVICE) &&
	       range->direction <= U_DMA_BUF_FROM_DEVICE &&
	       udb_range_ok(buf->size, range->offset, range->size);
}

/* user: NULL for who is no file. */
int udb_sync_range(struct udb_buffer *buf, struct udb_file *user,
		   const struct u_dma_buf_sync_range *range)
{
	struct udb_sync_run run = { .buf = buf, .user = user, .ranges = range, .count = 1 };

	if (!udb_sync_range_ok(buf, range))
		return -EINVAL;
	return udb_sync_ranges(&run);
}

/* The range has to be inside the buffer. The owner stays. user: NULL for none. */
int udb_sync_memory(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size,
		    enum dma_data_direction dir, bool for_device)
{
	const struct u_dma_buf_sync_range range = {
		.offset = offset,
		.size = size,
		.command = for_device ? U_DMA_BUF_SYNC_FOR_DEVICE : U_DMA_BUF_SYNC_FOR_CPU,
		.direction = dir,
	};
	struct udb_sync_run run = { .buf = buf, .user = user, .ranges = &range, .count = 1 };
	int ret = udb_run_enter(&run);

	if (ret)
		return ret;
	ret = udb_run_range(&run, &range);
	if (ret)
		return ret;
	udb_leave(buf);
	return 0;
}

int udb_sync_batch(struct udb_file *user, const struct u_dma_buf_sync_batch *batch)
{
	struct udb_sync_run run = { .buf = user->buf, .user = user, .count = batch->count };
	/* Most batches are small. */
	struct u_dma_buf_sync_range few[16], *ranges = few;
	unsigned int i;
	int ret;

	if (batch->flags || batch->count > U_DMA_BUF_SYNC_BATCH_MAX)
		return -EINVAL;
	if (batch->count > ARRAY_SIZE(few)) {
		ranges = kvmalloc_array(batch->count, sizeof(*ranges), GFP_KERNEL);
		if (!ranges)
			return -ENOMEM;
	}
	ret = -EFAULT;
	if (copy_from_user(ranges, u64_to_user_ptr(batch->ranges),
			   batch->count * sizeof(*ranges)))
		goto out;
	ret = -EINVAL;
	for (i = 0; i < batch->count; i++)
		if (!udb_sync_range_ok(user->buf, &ranges[i]))
			goto out;
	run.ranges = ranges;
	ret = udb_sync_ranges(&run);
out:
	if (ranges != few)
		kvfree(ranges);
	return ret;
}

/* The sync value of the header and of sysfs. */
int udb_sync_value(struct udb_buffer *buf, struct udb_file *user, u64 value, u32 command)
{
	struct u_dma_buf_sync_range range = { .command = command };

	if (!value)
		return udb_check(buf);
	if (value == 1) {
		struct udb_sync_settings stored = udb_settings(buf);

		range.offset = stored.offset;
		range.size = stored.size;
		range.direction = stored.direction;
	} else {
		range.offset = value >> 32;
		range.size = value & 0xfffffff0;
		range.direction = (value >> 2) & 3;
		if (range.direction == 3)
			range.direction = DMA_BIDIRECTIONAL;
	}
	return udb_sync_range(buf, user, &range);
}

/*
 * Enters, to change the settings: they are everybody's, so any other file's claim
 * is in the way.
 */
int udb_settings_enter(struct udb_buffer *buf, struct udb_file *user)
{
	int ret = udb_enter(buf);

	if (ret)
		return ret;
	ret = udb_check_claims(buf, user, 0, PAGE_ALIGN(buf->size));
	if (ret)
		udb_leave(buf);
	return ret;
}

/* SET_SYNC: stores and runs, or does neither. */
int udb_set_sync(struct udb_file *user, const struct u_dma_buf_sync_args *args)
{
	unsigned int direction = (args->flags >> U_DMA_BUF_SYNC_DIRECTION_SHIFT) & 3;
	unsigned int mode = (args->flags >> U_DMA_BUF_SYNC_MODE_SHIFT) & 0xff;
	u32 command = args->flags & U_DMA_BUF_SYNC_COMMAND;
	struct udb_sync_settings sync;
	struct udb_buffer *buf = user->buf;
	struct u_dma_buf_sync_range range;
	bool run = command == U_DMA_BUF_SYNC_FOR_CPU || command == U_DMA_BUF_SYNC_FOR_DEVICE;
	int ret;

	if (mode > UDB_SYNC_MODE_MAX)
		return -EINVAL;

	ret = udb_settings_enter(buf, user);
	if (ret)
		return ret;
	spin_lock(&buf->lock);
	sync = buf->sync;
	sync.offset = args->offset;
	if (direction != 3)
		sync.direction = direction;
	if (args->size)
		sync.size = args->size;
	if (mode)
		sync.mode = mode;
	if (run && !udb_range_ok(buf->size, sync.offset, sync.size))
		ret = -EINVAL;
	else
		buf->sync = sync;
	spin_unlock(&buf->lock);
	udb_leave(buf);
	if (ret || !run)
		return ret;

	range.offset = sync.offset;
	range.size = sync.size;
	range.command = command;
	range.direction = sync.direction;
	return udb_sync_range(buf, user, &range);
}

void udb_get_sync(struct udb_buffer *buf, struct u_dma_buf_sync_args *args)
{
	u32 owner = udb_owner(buf);

	spin_lock(&buf->lock);
	args->offset = buf->sync.offset;
	args->size = buf->sync.size;
	args->flags = (u64)buf->sync.direction << U_DMA_BUF_SYNC_DIRECTION_SHIFT |
		      (u64)buf->sync.mode << U_DMA_BUF_SYNC_MODE_SHIFT |
		      (owner == U_DMA_BUF_OWNER_DEVICE ? U_DMA_BUF_SYNC_OWNER : 0);
	spin_unlock(&buf->lock);
}
