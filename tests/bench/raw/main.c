// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The yardstick: what `udmabuf-bench measure` does with the crates, in C on the
 * kernel's own interfaces. Prints the same lines.
 *
 * Usage: raw BUFFER..., or raw mappings BUFFER..., raw batches BUFFER... for those
 * alone. Beside the yardstick it measures floors: what is left of an operation when
 * nothing of it is done, which nobody can go below.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "meter.h"
#include "raw.h"

static CALLED void do_nothing(struct job *job)
{
	(void)job;
	syscall(SYS_getppid);
}

static void measure_buffer(const char *name)
{
	struct buffer buffer = open_buffer(name);

	measure_syncs(&buffer);
	if (buffer.size >= MIB)
		measure_batches(&buffer);
	measure_mappings(&buffer);
	if (buffer.size >= MIB)
		measure_copies(&buffer);
	munmap((void *)buffer.start, buffer.size);
	close(buffer.fd);
	measure_open_close(&buffer);
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
	measure_create_delete();
	measure_device();
	return 0;
}
