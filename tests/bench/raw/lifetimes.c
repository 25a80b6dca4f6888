// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What it costs to open a buffer, and to create one. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meter.h"
#include "raw.h"

/* Mapped cached whatever the sync_mode is, with the count of what is lent. */
static CALLED void open_close(struct job *job)
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

static CALLED void create_delete(struct job *job)
{
	static const char create[] = "create bench 0x10000\n", delete[] = "delete bench\n";

	(void)job;
	int fd = open("/dev/u-dma-buf-mgr", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, create, sizeof(create) - 1) < 0 ||
	    write(fd, delete, sizeof(delete) - 1) < 0)
		err(1, "u-dma-buf-mgr");
	close(fd);
}

void measure_open_close(struct buffer *buffer)
{
	struct job job = { .buffer = buffer };

	buffer_row(buffer, "open, claim, map, close", buffer->size, cost(open_close, &job));
}

void measure_create_delete(void)
{
	struct job job = { 0 };

	if (!access("/dev/u-dma-buf-mgr", W_OK))
		row("create and delete a buffer", 64 * KIB, "B", cost(create_delete, &job));
}
