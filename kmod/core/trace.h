/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Trace events of u-dma-buf, by minor number: /sys/kernel/tracing/events/u_dma_buf/. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM u_dma_buf

#if !defined(UDB_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define UDB_TRACE_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(udb_buffer,
	TP_PROTO(int minor, u64 size, u64 addr),
	TP_ARGS(minor, size, addr),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(u64, size)
		__field(u64, addr)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->size = size;
		__entry->addr = addr;
	),
	TP_printk("minor=%d size=%llu addr=0x%llx", __entry->minor, __entry->size, __entry->addr)
);

DEFINE_EVENT(udb_buffer, u_dma_buf_create,
	TP_PROTO(int minor, u64 size, u64 addr),
	TP_ARGS(minor, size, addr));

DEFINE_EVENT(udb_buffer, u_dma_buf_remove,
	TP_PROTO(int minor, u64 size, u64 addr),
	TP_ARGS(minor, size, addr));

/* For a mapping without it. */
DEFINE_EVENT(udb_buffer, u_dma_buf_empty_cache,
	TP_PROTO(int minor, u64 size, u64 addr),
	TP_ARGS(minor, size, addr));

DECLARE_EVENT_CLASS(udb_range,
	TP_PROTO(int minor, u64 offset, u64 size, unsigned int how),
	TP_ARGS(minor, offset, size, how),
	TP_STRUCT__entry(
		__field(int, minor)
		__field(u64, offset)
		__field(u64, size)
		__field(unsigned int, how)
	),
	TP_fast_assign(
		__entry->minor = minor;
		__entry->offset = offset;
		__entry->size = size;
		__entry->how = how;
	),
	TP_printk("minor=%d offset=0x%llx size=%llu how=%u", __entry->minor, __entry->offset,
		  __entry->size, __entry->how)
);

/* how: the direction, 0...2. */
DEFINE_EVENT(udb_range, u_dma_buf_sync_for_device,
	TP_PROTO(int minor, u64 offset, u64 size, unsigned int how),
	TP_ARGS(minor, offset, size, how));

DEFINE_EVENT(udb_range, u_dma_buf_sync_for_cpu,
	TP_PROTO(int minor, u64 offset, u64 size, unsigned int how),
	TP_ARGS(minor, offset, size, how));

/* A claim that was given. how: U_DMA_BUF_CLAIM_*. */
DEFINE_EVENT(udb_range, u_dma_buf_claim,
	TP_PROTO(int minor, u64 offset, u64 size, unsigned int how),
	TP_ARGS(minor, offset, size, how));

#endif /* UDB_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
