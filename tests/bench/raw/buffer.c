// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Takes a buffer: claimed, and mapped as it is. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "raw.h"

struct buffer open_buffer(const char *name)
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
