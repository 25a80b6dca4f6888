// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Mapping a buffer, by size. */
#include <err.h>
#include <sys/mman.h>

#include "meter.h"
#include "raw.h"

#define MAPPED_MAX	(64 * MIB)

static void map_touch_unmap(struct job *job)
{
	volatile uint8_t *start = mmap(NULL, job->size, PROT_READ | PROT_WRITE, MAP_SHARED,
				       job->buffer->fd, 0);

	if (start == MAP_FAILED)
		err(1, "%s: mmap", job->buffer->name);
	for (size_t at = 0; at < job->size; at += PAGE)
		start[at] = 1;
	munmap((void *)start, job->size);
}

static void map_unmap(struct job *job)
{
	void *start = mmap(NULL, job->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			   job->buffer->fd, 0);

	if (start == MAP_FAILED)
		err(1, "%s: mmap", job->buffer->name);
	munmap(start, job->size);
}

/* Of that, what the program itself does. */
static void touch(struct job *job)
{
	volatile uint8_t *start = job->buffer->start;

	for (size_t at = 0; at < job->size; at += PAGE)
		start[at] = 1;
}

void measure_mappings(struct buffer *buffer)
{
	struct job job = { .buffer = buffer };

	for (size_t size = 64 * KIB; size <= buffer->size && size <= MAPPED_MAX; size *= 4) {
		double value;

		job.size = size;
		value = cost(map_touch_unmap, &job);
		buffer_row(buffer, "mmap, touch every page, munmap", size, value);
		buffer_row_of("floor: untouched", buffer, "mmap, touch every page, munmap", size,
			      "B", cost(map_unmap, &job));
		buffer_row(buffer, "each page: mmap, touch, munmap", size, value * PAGE / size);
		buffer_row_of("touch alone", buffer, "each page: mmap, touch, munmap", size, "B",
			      cost(touch, &job) * PAGE / size);
	}
}
