// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Copies of a buffer: by calls, and by the program, from cached and uncached memory. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meter.h"
#include "raw.h"

static void read_call(struct job *job)
{
	if (pread(job->buffer->fd, job->other, job->size, 0) != (ssize_t)job->size)
		err(1, "%s: read", job->buffer->name);
}

static void write_call(struct job *job)
{
	if (pwrite(job->buffer->fd, job->other, job->size, 0) != (ssize_t)job->size)
		err(1, "%s: write", job->buffer->name);
}

static void copy_in(struct job *job)
{
	memcpy((void *)job->buffer->start, job->other, job->size);
}

static void copy_out(struct job *job)
{
	memcpy(job->other, (void *)job->buffer->start, job->size);
}

static void copy_words_in(struct job *job)
{
	volatile uint64_t *into = (volatile uint64_t *)job->buffer->start;
	const uint64_t *from = job->other;

	for (size_t i = 0; i < job->size / sizeof(*into); i++)
		into[i] = from[i];
}

static void copy_words_out(struct job *job)
{
	const volatile uint64_t *from = (volatile uint64_t *)job->buffer->start;
	uint64_t *into = job->other;

	for (size_t i = 0; i < job->size / sizeof(*into); i++)
		into[i] = from[i];
}

static void sum_words(struct job *job)
{
	const uint32_t *words = (const uint32_t *)job->buffer->start;
	uint32_t sum = 0;

	for (size_t i = 0; i < job->size / sizeof(*words); i++)
		sum += words[i];
	job->sum = sum;
}

static void check(const struct buffer *buffer, const void *expected, size_t size)
{
	if (memcmp((void *)buffer->start, expected, size))
		errx(1, "%s: wrong bytes", buffer->name);
}

/* The same copies by the same calls, of memory that needs no care. */
static void measure_memfd(const struct buffer *buffer, void *words)
{
	struct buffer plain = { .name = "memfd", .fd = memfd_create("floor", MFD_CLOEXEC) };
	struct job job = { .buffer = &plain, .size = MIB, .other = words };

	if (plain.fd < 0)
		err(1, "memfd");
	buffer_row_of("floor: of a memfd", buffer, "write()", MIB, "B", cost(write_call, &job));
	buffer_row_of("floor: of a memfd", buffer, "read()", MIB, "B", cost(read_call, &job));
	close(plain.fd);
}

void measure_copies(struct buffer *buffer)
{
	uint32_t *words = malloc(MIB), sum = 0;
	struct job job = { .buffer = buffer, .size = MIB, .other = words };
	volatile uint8_t *cached = buffer->start;
	uint64_t mode = U_DMA_BUF_MAP_UNCACHED;
	double value;

	for (size_t i = 0; i < MIB / 4; i++)
		sum += words[i] = i * 2654435761U;
	buffer_row(buffer, "write()", MIB, cost(write_call, &job));
	check(buffer, words, MIB);
	buffer_row(buffer, "read()", MIB, cost(read_call, &job));
	check(buffer, words, MIB);
	measure_memfd(buffer, words);
	memset((void *)buffer->start, 0, MIB);
	value = cost(copy_in, &job);
	buffer_row(buffer, "memcpy in", MIB, value);
	buffer_row_of("memcpy", buffer, "write()", MIB, "B", value);
	check(buffer, words, MIB);
	value = cost(copy_out, &job);
	buffer_row(buffer, "memcpy out", MIB, value);
	buffer_row_of("memcpy", buffer, "read()", MIB, "B", value);
	check(buffer, words, MIB);
	buffer_row(buffer, "sum of 32-bit words", MIB, cost(sum_words, &job));
	if (job.sum != sum)
		errx(1, "%s: wrong sum", buffer->name);

	if (ioctl(buffer->fd, U_DMA_BUF_IOCTL_SET_MAP_MODE, &mode)) {
		/* Not of a coherent device's buffer. */
		if (errno != EOPNOTSUPP)
			err(1, "%s: map mode", buffer->name);
		free(words);
		return;
	}
	munmap((void *)cached, buffer->size);
	buffer->start = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			     buffer->fd, 0);
	if (buffer->start == MAP_FAILED)
		err(1, "%s: mmap", buffer->name);
	buffer_row(buffer, "copy in, uncached mapping", MIB, cost(copy_words_in, &job));
	buffer_row(buffer, "copy out, uncached mapping", MIB, cost(copy_words_out, &job));
	check(buffer, words, MIB);
	free(words);
}
