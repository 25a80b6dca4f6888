// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Handing ranges to the device and to the CPU. A request becomes ranges of its
 * own, checked once; nothing shared is read after that. Callers do not wait for
 * each other: instead of udb_enter(), which costs more than a small sync, they
 * use RCU, which removal and claims of ranges wait for, too.
 */
#include <linux/dma-mapping.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
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
static __always_inline void udb_sync_chunk(struct udb_buffer *buf, size_t offset, size_t size,
					   enum dma_data_direction dir, bool for_device)
{
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

/* Lets others in, who may claim what is left of the range. */
static noinline int udb_sync_pause(struct udb_buffer *buf, struct udb_file *user, u64 offset,
				   u64 size)
	__must_hold(RCU)
{
	rcu_read_unlock();
	cond_resched();
	rcu_read_lock();
	if (fatal_signal_pending(current))
		return -EINTR;
	return READ_ONCE(buf->gone) ? -ENODEV : udb_check_claims(buf, user, offset, size);
}

/*
 * For the CPU, by who may not write: what others wrote is not lost. To drop a line is
 * to lose what it has that is not yet in memory, so each page is written back just
 * before.
 */
int udb_sync_reader(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size)
{
	size_t budget = UDB_SYNC_CHUNK;
	int ret;

	trace_u_dma_buf_sync_for_device(buf->minor, offset, size, DMA_TO_DEVICE);
	trace_u_dma_buf_sync_for_cpu(buf->minor, offset, size, DMA_FROM_DEVICE);
	rcu_read_lock();
	ret = READ_ONCE(buf->gone) ? -ENODEV : udb_check_claims(buf, user, offset, size);
	while (!ret && size && buf->memory.synced) {
		size_t len = min_t(u64, size, PAGE_SIZE - offset_in_page(offset));

		udb_sync_chunk(buf, offset, len, DMA_TO_DEVICE, true);
		udb_sync_chunk(buf, offset, len, DMA_FROM_DEVICE, false);
		offset += len;
		size -= len;
		budget -= len;
		if (budget < PAGE_SIZE && size) {
			budget = UDB_SYNC_CHUNK;
			ret = udb_sync_pause(buf, user, offset, size);
		}
	}
	rcu_read_unlock();
	return ret;
}

/* How far a request is. */
struct udb_sync_progress {
	size_t budget;			/* bytes until the next pause */
	bool checked;			/* its claims, since the last pause */
};

static __always_inline int udb_sync_piece(struct udb_buffer *buf, struct udb_file *user,
					  u64 offset, u64 size, enum dma_data_direction dir,
					  bool for_device, struct udb_sync_progress *now)
{
	/* A pause since the first check may have let a claim in. */
	int ret = now->checked ? 0 : udb_check_claims(buf, user, offset, size);

	if (ret)
		return ret;
	if (!buf->memory.synced) {
		if (IS_ENABLED(CONFIG_ARM) && for_device) {
			/* Write-combined stores may be in the buffer of an outer cache. */
			wmb();
		}
		return 0;
	}
	while (unlikely(size > now->budget)) {
		udb_sync_chunk(buf, offset, now->budget, dir, for_device);
		offset += now->budget;
		size -= now->budget;
		now->budget = UDB_SYNC_CHUNK;
		now->checked = false;
		ret = udb_sync_pause(buf, user, offset, size);
		if (ret)
			return ret;
	}
	udb_sync_chunk(buf, offset, size, dir, for_device);
	now->budget -= size;
	return 0;
}

static __always_inline void udb_trace_sync(struct udb_buffer *buf,
					   const struct u_dma_buf_sync_range *range)
{
	if (range->command == U_DMA_BUF_SYNC_FOR_DEVICE)
		trace_u_dma_buf_sync_for_device(buf->minor, range->offset, range->size,
						range->direction);
	else
		trace_u_dma_buf_sync_for_cpu(buf->minor, range->offset, range->size,
					     range->direction);
}

/* Those that continue each other are one for the DMA API. */
static __always_inline int udb_sync_pieces(struct udb_buffer *buf, struct udb_file *user,
					   const struct u_dma_buf_sync_range *ranges,
					   unsigned int count, bool for_device,
					   struct udb_sync_progress *now)
{
	unsigned int i = 0;

	while (i < count) {
		u64 offset = ranges[i].offset, end = offset + ranges[i].size;
		u32 direction = ranges[i].direction;
		int ret;

		for (i++; i < count; i++) {
			if (ranges[i].offset != end || ranges[i].direction != direction)
				break;
			end += ranges[i].size;
		}
		ret = udb_sync_piece(buf, user, offset, end - offset, direction, for_device, now);
		if (ret)
			return ret;
	}
	return 0;
}

static __always_inline bool udb_sync_range_ok(struct udb_buffer *buf,
					      const struct u_dma_buf_sync_range *range)
{
	return (range->command == U_DMA_BUF_SYNC_FOR_CPU ||
		range->command == U_DMA_BUF_SYNC_FOR_DEVICE) &&
	       range->direction <= U_DMA_BUF_FROM_DEVICE &&
	       udb_range_ok(buf->size, range->offset, range->size);
}

static __always_inline int udb_sync_check_claims(struct udb_buffer *buf, struct udb_file *user,
						 const struct u_dma_buf_sync_range *ranges,
						 unsigned int count)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; unlikely(READ_ONCE(buf->range_claims)) && i < count && !ret; i++)
		ret = udb_find_claims(buf, user, ranges[i].offset, ranges[i].size);
	return ret;
}

static __always_inline int udb_sync_check(struct udb_buffer *buf, struct udb_file *user,
					  const struct u_dma_buf_sync_range *ranges,
					  unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (!udb_sync_range_ok(buf, &ranges[i]))
			return -EINVAL;
	return READ_ONCE(buf->gone) ? -ENODEV :
	       udb_sync_check_claims(buf, user, ranges, count);
}

/* In order, or none if one is wrong. Inlined, as most requests have one range. */
static __always_inline int udb_sync_ranges(struct udb_buffer *buf, struct udb_file *user,
					   const struct u_dma_buf_sync_range *ranges,
					   unsigned int count)
{
	struct udb_sync_progress now = { .budget = UDB_SYNC_CHUNK, .checked = true };
	unsigned int first, end;
	int ret;

	rcu_read_lock();
	ret = udb_sync_check(buf, user, ranges, count);
	for (first = 0; first < count && !ret; first = end) {
		bool for_device = ranges[first].command == U_DMA_BUF_SYNC_FOR_DEVICE;
		bool whole = false;
		u64 bytes = 0;

		/* Those in a row that go the same way; their sum does not wrap. */
		for (end = first; end < count; end++) {
			const struct u_dma_buf_sync_range *range = &ranges[end];

			if (range->command != ranges[first].command)
				break;
			whole |= !range->offset && range->size >= buf->size;
			bytes += range->size;
			udb_trace_sync(buf, range);
		}
		/* Nothing that a pause let another file claim is handed over. */
		if (!now.checked)
			ret = udb_sync_check_claims(buf, user, &ranges[first], end - first);
		if (ret)
			break;
		if (for_device && bytes)
			udb_lend(buf, user, bytes);
		ret = udb_sync_pieces(buf, user, &ranges[first], end - first, for_device,
				      &now);
		if (ret)
			break;
		/* All at once takes back all that there is. */
		if (!for_device && bytes)
			udb_take_back(buf, user, whole ? U64_MAX : bytes);
		udb_count_syncs(buf, for_device, end - first, bytes);
	}
	rcu_read_unlock();
	return ret;
}

/* user: NULL for who is no file. */
int udb_sync_range(struct udb_buffer *buf, struct udb_file *user,
		   const struct u_dma_buf_sync_range *range)
{
	return udb_sync_ranges(buf, user, range, 1);
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
	struct udb_sync_progress now = { .budget = UDB_SYNC_CHUNK };
	int ret;

	udb_trace_sync(buf, &range);
	rcu_read_lock();
	ret = READ_ONCE(buf->gone) ? -ENODEV :
	      udb_sync_piece(buf, user, offset, size, dir, for_device, &now);
	rcu_read_unlock();
	return ret;
}

int udb_sync_batch(struct udb_file *user, const struct u_dma_buf_sync_batch *batch)
{
	/* Most batches are small. */
	struct u_dma_buf_sync_range few[16], *ranges = few;
	int ret;

	if (batch->flags || batch->count > U_DMA_BUF_SYNC_BATCH_MAX)
		return -EINVAL;
	if (batch->count > ARRAY_SIZE(few)) {
		ranges = kvmalloc_array(batch->count, sizeof(*ranges), GFP_KERNEL_ACCOUNT);
		if (!ranges)
			return -ENOMEM;
	}
	if (copy_from_user(ranges, u64_to_user_ptr(batch->ranges),
			   batch->count * sizeof(*ranges)))
		ret = -EFAULT;
	else
		ret = udb_sync_ranges(user->buf, user, ranges, batch->count);
	if (ranges != few)
		kvfree(ranges);
	return ret;
}

/* With the stored settings. Not inlined: the other way needs no room for them. */
static noinline int udb_sync_stored(struct udb_buffer *buf, struct udb_file *user, u32 command)
{
	struct udb_sync_settings stored = udb_settings(buf);
	struct u_dma_buf_sync_range range = {
		.offset = stored.offset,
		.size = stored.size,
		.command = command,
		.direction = stored.direction,
	};

	return udb_sync_range(buf, user, &range);
}

/* The sync value of the header and of sysfs. */
int udb_sync_value(struct udb_buffer *buf, struct udb_file *user, u64 value, u32 command)
{
	struct u_dma_buf_sync_range range = {
		.offset = value >> 32,
		.size = value & 0xfffffff0,
		.command = command,
		.direction = (value >> 2) & 3,
	};

	if (!value)
		return udb_check(buf);
	if (value == 1)
		return udb_sync_stored(buf, user, command);
	if (range.direction == 3)
		range.direction = DMA_BIDIRECTIONAL;
	return udb_sync_ranges(buf, user, &range, 1);
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
