/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* An instruction for every cache line of a part. */
#ifndef RAW_LINES_H
#define RAW_LINES_H

#define LINE 64

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

#endif
