// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Registers and interrupts of QEMU's edu device. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meter.h"
#include "raw.h"

#define READS		64

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

static CALLED void interrupt_deadline(struct job *job)
{
	arm(job);
	job->registers[0x60 / 4] = 1;
	wait_for(job, now() + 1e9);
	job->registers[0x64 / 4] = 1;
}

static CALLED void interrupt(struct job *job)
{
	arm(job);
	job->registers[0x60 / 4] = 1;
	wait_for(job, 0);
	job->registers[0x64 / 4] = 1;
}

/* QEMU's edu device, as uio0. */
void measure_device(void)
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
