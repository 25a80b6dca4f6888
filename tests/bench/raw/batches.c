// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Many parts handed over and taken back at once. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lines.h"
#include "meter.h"
#include "raw.h"

#define PARTS_MAX	4096

static void sync_batch_pair(struct job *job)
{
	if (ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SYNC_BATCH, &job->there) ||
	    ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SYNC_BATCH, &job->back))
		err(1, "%s: sync", job->buffer->name);
}

#ifdef __aarch64__
/* The bare instructions, in a loop, for many parts. */
static void maintain_parts(struct job *job)
{
	for (unsigned int i = 0; i < job->parts; i++)
		LINES_FROM("dc cvac, %0", job->buffer->start + i * job->step);
	asm volatile("dsb sy" : : : "memory");
	asm volatile("dmb osh" : : : "memory");
	for (unsigned int i = 0; i < job->parts; i++)
		LINES_FROM("dc civac, %0", job->buffer->start + i * job->step);
	asm volatile("dsb sy" : : : "memory");
}
#endif

/* Of 16 parts one row, of any number what each costs. */
static void count_rows(const char *program, const struct buffer *buffer, const char *parts,
		       const char *way, unsigned int count, double value)
{
	char name[96];

	if (count == 16) {
		snprintf(name, sizeof(name), "16 %s of %zu bytes%s", parts, buffer->part, way);
		buffer_row_of(program, buffer, name, 0, "", value);
	}
	snprintf(name, sizeof(name), "each of N %s of %zu bytes%s", parts, buffer->part, way);
	buffer_row_of(program, buffer, name, count, "parts", value / count);
}

/* Parts that follow each other, or every second: as a ring gets them back. */
static void measure_batches_of(struct buffer *buffer, const char *parts, size_t step)
{
	struct u_dma_buf_sync_range *there = calloc(PARTS_MAX, sizeof(*there));
	struct u_dma_buf_sync_range *back = calloc(PARTS_MAX, sizeof(*back));
	/* As the SDK's rows are called: with C, all are one. */
	static const char *const ways[] = { " together", " together by the module", ", by ioctl" };
	bool is_coherent = !strcmp(buffer->kind, "coherent");
	struct job job = { .buffer = buffer, .size = buffer->part, .step = step };

	for (int i = 0; i < PARTS_MAX; i++) {
		there[i].offset = (uint64_t)i * step;
		there[i].size = buffer->part;
		back[i] = there[i];
		there[i].command = U_DMA_BUF_SYNC_FOR_DEVICE;
		back[i].command = U_DMA_BUF_SYNC_FOR_CPU;
	}
	job.there.ranges = (uintptr_t)there;
	job.back.ranges = (uintptr_t)back;
	for (unsigned int count = 1; count <= PARTS_MAX; count *= 4) {
		double value;

		job.there.count = count;
		job.back.count = count;
		value = cost(sync_batch_pair, &job);
		for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
			/* Where there is nothing to maintain, nobody does. */
			if (i != 1 || !is_coherent)
				count_rows("C", buffer, parts, ways[i], count, value);
#ifdef __aarch64__
		job.parts = count;
		if (!is_coherent)
			count_rows("bare instructions", buffer, parts, ways[0], count,
				   cost(maintain_parts, &job));
#endif
	}
	free(there);
	free(back);
}

void measure_batches(struct buffer *buffer)
{
	measure_batches_of(buffer, "parts", buffer->part);
	if (buffer->size >= 2 * buffer->part * PARTS_MAX)
		measure_batches_of(buffer, "scattered parts", 2 * buffer->part);
}
