// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The yardstick: what `udmabuf-bench measure` does with the crates, in C on the
 * kernel's own interfaces. Prints the same lines.
 *
 * Usage: raw BUFFER..., or raw mappings BUFFER..., raw batches BUFFER... for those
 * alone. Beside the yardstick it measures floors: what is left of an operation when
 * nothing of it is done, which nobody can go below.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../kmod/include/uapi/u-dma-buf.h"

/* As in src/meter.rs. */
#define ROUNDS		7
#define ROUND_NS	300000
#define ROUND_MAX	2000
#define LONG_NS		20e6

#define KIB		((size_t)1024)
#define MIB		(KIB * 1024)
#define GIB		(MIB * 1024)
#define PAGE		(4 * KIB)
#define MAPPED_MAX	(64 * MIB)
#define PARTS_MAX	4096
#define READS		64

struct buffer {
	const char *name;
	const char *kind;
	int fd;
	size_t size, part;
	bool has_advice;
	volatile uint8_t *start;
};

/* What an operation works on. */
struct job {
	struct buffer *buffer;
	size_t offset, size, step;
	unsigned int parts;
	void *other;
	uint64_t sum;
	struct u_dma_buf_sync_batch there, back;
	volatile uint32_t *registers;
	int uio, config;
	uint8_t unmasked;
};

typedef void (*operation)(struct job *job);

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static double round_ns(operation op, struct job *job, unsigned int count)
{
	double start = now();

	for (unsigned int i = 0; i < count; i++)
		op(job);
	return now() - start;
}

static double cost(operation op, struct job *job)
{
	double least;
	unsigned int count;

	op(job);
	least = round_ns(op, job, 1);
	if (least > LONG_NS)
		return least;
	count = least * ROUND_MAX < ROUND_NS ? ROUND_MAX : ROUND_NS / least;
	count = count ?: 1;
	for (int i = 0; i < ROUNDS; i++) {
		double ns = round_ns(op, job, count) / count;

		least = ns < least ? ns : least;
	}
	return least;
}

static void row_of(const char *program, const char *operation, double x, const char *unit,
		   double value)
{
	printf("row\t%s\t%s\t%.0f\t%s\t%.2f\n", program, operation, x, unit, value);
}

static void row(const char *operation, double x, const char *unit, double value)
{
	row_of("C", operation, x, unit, value);
}

static void buffer_row_of(const char *program, const struct buffer *buffer,
			  const char *operation, double x, const char *unit, double value)
{
	char name[128];

	snprintf(name, sizeof(name), "%s, %s", operation, buffer->kind);
	row_of(program, name, x, unit, value);
}

static void buffer_row(const struct buffer *buffer, const char *operation, size_t size,
		       double value)
{
	buffer_row_of("C", buffer, operation, size, "B", value);
}

static void do_nothing(struct job *job)
{
	(void)job;
	syscall(SYS_getppid);
}

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
	    posix_fadvise(job->buffer->fd, job->offset, job->size, POSIX_FADV_WILLNEED))
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

static void sync_batch_pair(struct job *job)
{
	if (ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SYNC_BATCH, &job->there) ||
	    ioctl(job->buffer->fd, U_DMA_BUF_IOCTL_SYNC_BATCH, &job->back))
		err(1, "%s: sync", job->buffer->name);
}

#ifdef __aarch64__
#define LINE 64

#define EACH_LINE(instruction)	LINES_FROM(instruction, job->buffer->start + job->offset)

#define LINES_FROM(instruction, start)					\
	do {								\
		volatile uint8_t *at = start;				\
		volatile uint8_t *end = at + job->size;			\
									\
		for (; end - at >= 32 * LINE; at += 32 * LINE)		\
			_Pragma("GCC unroll 32")			\
			for (int i = 0; i < 32; i++)			\
				asm volatile(instruction : : "r" (at + i * LINE) : "memory"); \
		for (; at < end; at += LINE)				\
			asm volatile(instruction : : "r" (at) : "memory"); \
	} while (0)

/* The bare instructions, in a loop. */
static void maintain_pair(struct job *job)
{
	EACH_LINE("dc cvac, %0");
	asm volatile("dsb sy" : : : "memory");
	asm volatile("dmb osh" : : : "memory");
	EACH_LINE("dc civac, %0");
	asm volatile("dsb sy" : : : "memory");
}

/* The same for many parts. */
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

/* What is left of it where the device is coherent. */
static void barrier_pair(struct job *job)
{
	(void)job;
	asm volatile("dmb osh" : : : "memory");
	asm volatile("dmb oshld" : : : "memory");
}
#endif

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

/* Mapped cached whatever the sync_mode is, with the count of what is lent. */
static void open_close(struct job *job)
{
	uint64_t flags = 0, mode = U_DMA_BUF_MAP_CACHED;
	struct u_dma_buf_dev_info info;
	void *start, *lent;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", job->buffer->name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, U_DMA_BUF_IOCTL_CLAIM, &flags) ||
	    ioctl(fd, U_DMA_BUF_IOCTL_GET_DEV_INFO, &info) ||
	    ioctl(fd, U_DMA_BUF_IOCTL_SET_MAP_MODE, &mode))
		err(1, "%s", path);
	start = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	lent = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (info.size + PAGE - 1) & ~(off_t)(PAGE - 1));
	if (start == MAP_FAILED || lent == MAP_FAILED)
		err(1, "%s: mmap", path);
	munmap(start, info.size);
	munmap(lent, PAGE);
	close(fd);
}

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

static void create_delete(struct job *job)
{
	static const char create[] = "create bench 0x10000\n", delete[] = "delete bench\n";

	(void)job;
	int fd = open("/dev/u-dma-buf-mgr", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, create, sizeof(create) - 1) < 0 ||
	    write(fd, delete, sizeof(delete) - 1) < 0)
		err(1, "u-dma-buf-mgr");
	close(fd);
}

static void sum_words(struct job *job)
{
	const uint32_t *words = (const uint32_t *)job->buffer->start;
	uint32_t sum = 0;

	for (size_t i = 0; i < job->size / sizeof(*words); i++)
		sum += words[i];
	job->sum = sum;
}

static void read_registers(struct job *job)
{
#pragma GCC unroll 64
	for (int i = 0; i < READS; i++)
		(void)job->registers[0];
}

static void read_register(struct job *job)
{
	(void)job->registers[0];
}

static void write_registers(struct job *job)
{
#pragma GCC unroll 64
	for (int i = 0; i < READS; i++)
		job->registers[1] = 0;
}

static void write_register(struct job *job)
{
	job->registers[1] = 0;
}

/* The program arms edu's interrupt. */
static void arm(struct job *job)
{
	if (pwrite(job->config, &job->unmasked, 1, 5) != 1)
		err(1, "unmasking the interrupt");
}

/*
 * It is told of it, at once or by ppoll(), the wait that every signal ends. The
 * deadline is a point in time, for a wait that goes on; 0 is none.
 */
static void wait_for(struct job *job, double deadline)
{
	struct pollfd wait = { .fd = job->uio, .events = POLLIN };
	uint32_t count;

	while (read(job->uio, &count, 4) != 4) {
		double left = deadline - now();
		struct timespec timeout = { .tv_sec = left / 1e9 };

		timeout.tv_nsec = left - timeout.tv_sec * 1e9;
		if (errno != EAGAIN || ppoll(&wait, 1, deadline ? &timeout : NULL, NULL) != 1)
			err(1, "no interrupt");
	}
}

#ifdef __aarch64__
#define MS		1000000
#define COUNTER(name)	({ uint64_t value; asm volatile("isb; mrs %0, " name : "=r" (value)); value; })

/*
 * edu's DMA ends 100 ms after the millisecond in which it is started, with an
 * interrupt: long after the program has gone to sleep. Where the CPU's counter is
 * QEMU's clock in nanoseconds, it says how long after.
 */
static double wake_up(struct job *job, bool has_deadline)
{
	uint64_t late, least = MS;

	for (int i = 0; i < ROUNDS; i++) {
		double deadline = has_deadline ? now() + 1e9 : 0;

		arm(job);
		job->registers[0x80 / 4] = 0;
		job->registers[0x88 / 4] = 0x40000;
		job->registers[0x90 / 4] = 4;
		job->registers[0x98 / 4] = 1 | 4;
		wait_for(job, deadline);
		late = COUNTER("cntvct_el0") % MS;
		job->registers[0x64 / 4] = 0x100;
		least = late < least ? late : least;
	}
	return least;
}
#endif

static void interrupt_deadline(struct job *job)
{
	arm(job);
	job->registers[0x60 / 4] = 1;
	wait_for(job, now() + 1e9);
	job->registers[0x64 / 4] = 1;
}

static void interrupt(struct job *job)
{
	arm(job);
	job->registers[0x60 / 4] = 1;
	wait_for(job, 0);
	job->registers[0x64 / 4] = 1;
}

static void check(const struct buffer *buffer, const void *expected, size_t size)
{
	if (memcmp((void *)buffer->start, expected, size))
		errx(1, "%s: wrong bytes", buffer->name);
}

static struct buffer open_buffer(const char *name)
{
	struct buffer buffer = { .name = name };
	struct u_dma_buf_dev_info info;
	struct u_dma_buf_caps caps;
	uint64_t flags = 0;
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", name);
	buffer.fd = open(path, O_RDWR | O_CLOEXEC);
	if (buffer.fd < 0 || ioctl(buffer.fd, U_DMA_BUF_IOCTL_CLAIM, &flags) ||
	    ioctl(buffer.fd, U_DMA_BUF_IOCTL_GET_DEV_INFO, &info) ||
	    ioctl(buffer.fd, U_DMA_BUF_IOCTL_GET_CAPS, &caps))
		err(1, "%s", path);
	buffer.size = info.size;
	buffer.part = caps.cache_alignment;
	buffer.has_advice = caps.flags & U_DMA_BUF_CAP_ADVICE;
	buffer.kind = info.flags & U_DMA_BUF_DEV_COHERENT ? "coherent" : "non-coherent";
	buffer.start = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd, 0);
	if (buffer.start == MAP_FAILED)
		err(1, "%s: mmap", path);
	return buffer;
}

static void measure_syncs(struct buffer *buffer)
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

static void measure_batches(struct buffer *buffer)
{
	measure_batches_of(buffer, "parts", buffer->part);
	if (buffer->size >= 2 * buffer->part * PARTS_MAX)
		measure_batches_of(buffer, "scattered parts", 2 * buffer->part);
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

static void measure_copies(struct buffer *buffer)
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

	if (ioctl(buffer->fd, U_DMA_BUF_IOCTL_SET_MAP_MODE, &mode))
		err(1, "%s: map mode", buffer->name);
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

static void measure_mappings(struct buffer *buffer)
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

static void measure_buffer(const char *name)
{
	struct buffer buffer = open_buffer(name);
	struct job job = { .buffer = &buffer };

	measure_syncs(&buffer);
	if (buffer.size >= MIB)
		measure_batches(&buffer);
	measure_mappings(&buffer);
	if (buffer.size >= MIB)
		measure_copies(&buffer);
	munmap((void *)buffer.start, buffer.size);
	close(buffer.fd);
	buffer_row(&buffer, "open, claim, map, close", buffer.size, cost(open_close, &job));
}

/* QEMU's edu device, as uio0. */
static void measure_device(void)
{
	int bar = open("/sys/class/uio/uio0/device/resource0", O_RDWR | O_CLOEXEC);
	struct job job = { 0 };

	if (bar < 0)
		return;
	job.uio = open("/dev/uio0", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	job.config = open("/sys/class/uio/uio0/device/config", O_RDWR | O_CLOEXEC);
	job.registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	if (job.uio < 0 || job.config < 0 || job.registers == MAP_FAILED)
		err(1, "uio0");
	row("register read", 0, "", (cost(read_registers, &job) - cost(read_register, &job)) /
				    (READS - 1));
	row("register write", 0, "", (cost(write_registers, &job) - cost(write_register, &job)) /
				     (READS - 1));

	/* Bit 10 of the command register masks the interrupt. */
	if (pread(job.config, &job.unmasked, 1, 5) != 1)
		err(1, "config");
	job.unmasked &= ~0x04;
	row("interrupt: arm, raise, wait with a deadline, silence", 0, "",
	    cost(interrupt_deadline, &job));
	row("interrupt: arm, raise, wait, silence", 0, "", cost(interrupt, &job));
#ifdef __aarch64__
	if (COUNTER("cntfrq_el0") != 1000 * MS)
		return;
	row("interrupt: from the event to a sleeper with a deadline", 0, "", wake_up(&job, true));
	row("interrupt: from the event to a sleeper", 0, "", wake_up(&job, false));
#endif
}

int main(int argc, char **argv)
{
	struct job job = { 0 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && (!strcmp(argv[1], "mappings") || !strcmp(argv[1], "batches"))) {
		for (int i = 2; i < argc; i++) {
			struct buffer buffer = open_buffer(argv[i]);

			if (*argv[1] == 'm')
				measure_mappings(&buffer);
			else
				measure_batches(&buffer);
			munmap((void *)buffer.start, buffer.size);
			close(buffer.fd);
		}
		return 0;
	}
	row("a system call that does nothing", 0, "", cost(do_nothing, &job));
	for (int i = 1; i < argc; i++)
		measure_buffer(argv[i]);
	if (!access("/dev/u-dma-buf-mgr", W_OK))
		row("create and delete a buffer", 64 * KIB, "B", cost(create_delete, &job));
	measure_device();
	return 0;
}
