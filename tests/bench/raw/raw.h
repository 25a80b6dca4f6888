/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the files of this program share: buffers, operations, rows. */
#ifndef RAW_H
#define RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../kmod/include/uapi/u-dma-buf.h"

#define KIB		((size_t)1024)
#define MIB		(KIB * 1024)
#define GIB		(MIB * 1024)
#define PAGE		(4 * KIB)

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

/* Of an operation that stays a call: the compiler is not to put it into the loop. */
#define CALLED		__attribute__((noinline))

/* buffer.c */
struct buffer open_buffer(const char *name);

/* rows.c */
void row_of(const char *program, const char *operation, double x, const char *unit,
	    double value);
void row(const char *operation, double x, const char *unit, double value);
void buffer_row_of(const char *program, const struct buffer *buffer, const char *operation,
		   double x, const char *unit, double value);
void buffer_row(const struct buffer *buffer, const char *operation, size_t size, double value);

/* One file each: measures, and prints the rows. */
void measure_syncs(struct buffer *buffer);
void measure_batches(struct buffer *buffer);
void measure_mappings(struct buffer *buffer);
void measure_copies(struct buffer *buffer);
void measure_device(void);

/* lifetimes.c. The buffer is one that the program has closed. */
void measure_open_close(struct buffer *buffer);
void measure_create_delete(void);

#endif
