/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The clock, and what an operation costs by it. Here, not in a C file of its own, for
 * the compiler to see the loop and the operation at once: where it can, it leaves out
 * the call, as it does with a closure in ../src.
 */
#ifndef RAW_METER_H
#define RAW_METER_H

#include <time.h>

#include "raw.h"

/* As in ../src/meter.rs. */
#define ROUNDS		7
#define ROUND_NS	300000
#define ROUND_MAX	2000
#define LONG_NS		20e6

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

#endif
