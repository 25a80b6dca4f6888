// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A range handed over and taken back: by advice, by ioctl, by the bare instructions. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lines.h"
#include "meter.h"
#include "raw.h"

/* No command of the module: what every pair of ioctls on its file costs. */
static void unknown_pair(struct job *job)
{
	if (ioctl(job->buffer->fd, _IO('U', 0xff), NULL) != -1 ||
	    ioctl(job->buffer->fd, _IO('U', 0xff), NULL) != -1 || errno != ENOTTY)
		errx(1, "%s: a command that should not be", job->buffer->name);
}

/* As cheap as a call with a range gets: no hook of a security module, no structure. */
static void advise_pair(struct job *job)
{
	if (posix_fadvise(job->buffer->fd, 0, 64, POSIX_FADV_NORMAL) ||
	    posix_fadvise(job->buffer->fd, 0, 64, POSIX_FADV_NORMAL))
		errx(1, "%s: advice", job->buffer->name);
}

/* The same two calls where they sync (U_DMA_BUF_CAP_ADVICE). */
static void sync_advice_pair(struct job *job)
{
	if (posix_fadvise(job->buffer->fd, job->offset, job->size, POSIX_FADV_DONTNEED) ||
	    posix_fadvise(job->buffer->fd, job->offset, job->size, POSIX_FADV_NOREUSE))
		errx(1, "%s: sync by advice", job->buffer->name);
}

/* Of the ioctls the cheapest: the range packed into one number. */
static void sync_pair(struct job *job)
{
	uint64_t range = (uint64_t)job->offset << 32 | job->size | 1;

	if (ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SET_SYNC_FOR_DEVICE, &range) ||
	    ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SET_SYNC_FOR_CPU, &range))
		err(1, "%s: sync", job->buffer->name);
}

/* For what does not fit into 32 bits. */
static void sync_large_pair(struct job *job)
{
	struct u_dma_buf_sync_args args = { .offset = job->offset, .size = job->size };

	args.flags = U_DMA_BUF_SYNC_FOR_DEVICE;
	if (ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SET_SYNC, &args))
		err(1, "%s: sync", job->buffer->name);
	args.flags = U_DMA_BUF_SYNC_FOR_CPU;
	if (ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SET_SYNC, &args))
		err(1, "%s: sync", job->buffer->name);
}

#ifdef __aarch64__
#define EACH_LINE(instruction)	LINES_FROM(instruction, job->buffer->start + job->offset)

/* The bare instructions, in a loop. */
static void maintain_pair(struct job *job)
{
	EACH_LINE("dc cvac, %0");
	asm volatile("dsb sy" : : : "memory");
	asm volatile("dmb osh" : : : "memory");
	EACH_LINE("dc civac, %0");
	asm volatile("dsb sy" : : : "memory");
}

/* What is left of it where the device is coherent. */
static void barrier_pair(struct job *job)
{
	(void)job;
	asm volatile("dmb osh" : : : "memory");
	asm volatile("dmb oshld" : : : "memory");
}
#endif

void measure_syncs(struct buffer *buffer)
{
	static const size_t offsets[] = {
		4 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 2 * GIB, 4 * GIB, 4 * GIB + 64 * MIB,
	};
	bool is_coherent = !strcmp(buffer->kind, "coherent");
	struct job job = { .buffer = buffer };

	for (size_t size = 64; size <= buffer->size; size *= 4) {
		operation by_ioctl = size >> 32 ? sync_large_pair : sync_pair;
		operation cheapest = buffer->has_advice ? sync_advice_pair : by_ioctl;
		double value;

		job.size = size;
		value = cost(cheapest, &job);
		buffer_row(buffer, "hand over and take back", size, value);
		if (size <= MIB && !is_coherent)
			buffer_row(buffer, "hand over and take back by the module", size, value);
		buffer_row(buffer, "sync for the device and back, by ioctl", size,
			   cost(by_ioctl, &job));
		if (size <= MIB)
			buffer_row_of("C, by SET_SYNC", buffer,
				      "sync for the device and back, by ioctl", size, "B",
				      cost(sync_large_pair, &job));
#ifdef __aarch64__
		buffer_row_of("bare instructions", buffer, "hand over and take back", size, "B",
			      cost(is_coherent ? barrier_pair : maintain_pair, &job));
#endif
	}
	buffer_row_of("floor: two unknown ioctls", buffer,
		      "sync for the device and back, by ioctl", 64, "B", cost(unknown_pair, &job));
	if (!is_coherent)
		buffer_row_of("floor: advice that does nothing", buffer,
			      "hand over and take back by the module", 64, "B",
			      cost(advise_pair, &job));
	job.size = 4 * KIB;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		job.offset = offsets[i];
		if (job.offset + job.size > buffer->size)
			break;
		operation by_ioctl = job.offset >> 32 ? sync_large_pair : sync_pair;
		double value = cost(buffer->has_advice ? sync_advice_pair : by_ioctl, &job);

		buffer_row_of("C", buffer, "hand over and take back 4 KiB, by offset",
			      job.offset, "B on", value);
		if (!is_coherent)
			buffer_row_of("C", buffer,
				      "hand over and take back 4 KiB by the module, by offset",
				      job.offset, "B on", value);
	}
}
