/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The ioctl interface of u-dma-buf: the one definition of it, for the module
 * and for programs.
 *
 * A buffer is the character device /dev/<name>. Its size is as asked for, its
 * memory whole pages, which can be mapped and synced to the end of the last.
 *
 * Every ioctl may also fail with
 *   EFAULT  the argument cannot be read or written
 *   ENODEV  the buffer was removed while the file was open
 *   ENOTTY  an unknown number, or one with another argument size
 *
 * "Needs writing" below: fails with EBADF if the file is not open for
 * writing.
 */
#ifndef _UAPI_U_DMA_BUF_H
#define _UAPI_U_DMA_BUF_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define U_DMA_BUF_IOCTL_TYPE		'U'

/* The version that GET_DRV_INFO and sysfs ioctl_version give. */
#define U_DMA_BUF_IOCTL_VERSION		2

/* Directions, as the DMA API numbers them. */
#define U_DMA_BUF_BIDIRECTIONAL		0
#define U_DMA_BUF_TO_DEVICE		1
#define U_DMA_BUF_FROM_DEVICE		2

/* What GET_SYNC_OWNER gives. */
#define U_DMA_BUF_OWNER_CPU		0
#define U_DMA_BUF_OWNER_DEVICE		1

/**
 * struct u_dma_buf_drv_info - what the driver is
 * @flags: U_DMA_BUF_DRV_*
 * @version: the driver's version, as text, NUL-terminated
 */
struct u_dma_buf_drv_info {
	__u64 flags;
	char version[16];
};

#define U_DMA_BUF_DRV_IOCTL_VERSION	0xffULL		/* bits 0...7 */
#define U_DMA_BUF_DRV_IN_KERNEL		(1ULL << 8)	/* in-kernel functions */
#define U_DMA_BUF_DRV_OF_DMA_CONFIG	(1ULL << 12)	/* device-tree DMA set-up */
#define U_DMA_BUF_DRV_OF_RESERVED_MEM	(1ULL << 13)	/* memory-region */
#define U_DMA_BUF_DRV_QUIRK_MMAP	(1ULL << 16)
#define U_DMA_BUF_DRV_QUIRK_MMAP_PAGE	(1ULL << 17)

/**
 * struct u_dma_buf_dev_info - what a buffer is
 * @flags: U_DMA_BUF_DEV_*
 * @size: bytes, as asked for
 * @addr: where the device finds the first byte
 */
struct u_dma_buf_dev_info {
	__u64 flags;
	__u64 size;
	__u64 addr;
};

#define U_DMA_BUF_DEV_DMA_MASK		0xffULL		/* bits in the DMA mask */
#define U_DMA_BUF_DEV_COHERENT		(1ULL << 9)
#define U_DMA_BUF_DEV_MMAP_MODE_SHIFT	10		/* 3 bits, quirk_mmap_mode */

/**
 * struct u_dma_buf_sync_args - the stored synchronization settings
 * @flags: U_DMA_BUF_SYNC_*
 * @size: bytes; SET_SYNC: 0 leaves the stored size
 * @offset: from the start of the buffer
 */
struct u_dma_buf_sync_args {
	__u64 flags;
	__u64 size;
	__u64 offset;
};

#define U_DMA_BUF_SYNC_COMMAND		0x3ULL		/* bits 0...1 */
#define U_DMA_BUF_SYNC_FOR_CPU		0x1ULL
#define U_DMA_BUF_SYNC_FOR_DEVICE	0x3ULL
#define U_DMA_BUF_SYNC_DIRECTION_SHIFT	2		/* 2 bits; 3: leave */
#define U_DMA_BUF_SYNC_MODE_SHIFT	8		/* 8 bits; 0: leave */
#define U_DMA_BUF_SYNC_OWNER		(1ULL << 16)	/* only GET_SYNC */

/*
 * GET_DRV_INFO, GET_SIZE, GET_DMA_ADDR, GET_SYNC_OWNER, GET_DEV_INFO and
 * GET_SYNC only read.
 */
#define U_DMA_BUF_IOCTL_GET_DRV_INFO \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 1, struct u_dma_buf_drv_info)
#define U_DMA_BUF_IOCTL_GET_SIZE \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 2, __u64)
#define U_DMA_BUF_IOCTL_GET_DMA_ADDR \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 3, __u64)
#define U_DMA_BUF_IOCTL_GET_SYNC_OWNER \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 4, __u32)

/*
 * Gives a range to the CPU (SET_SYNC_FOR_CPU: stale cache lines are dropped)
 * or to the device (SET_SYNC_FOR_DEVICE: dirty lines are written back). The
 * argument is a sync value:
 *
 *   0                     nothing is done
 *   1                     the stored offset, size and direction
 *   any of bits 63...1    its own range; the stored settings stay as they are:
 *                         offset = bits 63...32; size = bits 31...4, in place,
 *                         so a multiple of 16; direction = bits 3...2, where 3
 *                         counts as 0
 *
 * A size of 0 does nothing. Needs writing. Errors, after which nothing has
 * changed:
 *   EINVAL  the range ends beyond the buffer's last page
 * The owner becomes the device before the first line is written back, and the
 * CPU after the last one was dropped; EINTR (a fatal signal) may come between.
 * See U_DMA_BUF_IOCTL_CLAIM for what a part of the buffer does to the owner.
 */
#define U_DMA_BUF_IOCTL_SET_SYNC_FOR_CPU \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 5, __u64)
#define U_DMA_BUF_IOCTL_SET_SYNC_FOR_DEVICE \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 6, __u64)

#define U_DMA_BUF_IOCTL_GET_DEV_INFO \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 7, struct u_dma_buf_dev_info)
#define U_DMA_BUF_IOCTL_GET_SYNC \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 8, struct u_dma_buf_sync_args)

/*
 * Stores direction, offset and, where not 0, size and mode for the whole
 * buffer, then runs the command, if there is one, on the settings so made.
 * Needs writing. Errors, after which nothing has changed:
 *   EINVAL  the mode is above 7, or there is a command and the range ends
 *           beyond the buffer's last page
 */
#define U_DMA_BUF_IOCTL_SET_SYNC \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 9, struct u_dma_buf_sync_args)

/**
 * struct u_dma_buf_export_args - a range to export as a dma-buf
 * @flags: of the new descriptor: O_CLOEXEC, O_SYNC and the access mode
 * @size: bytes, whole pages
 * @offset: from the start of the buffer, whole pages
 * @addr: answer: where the device finds the first byte
 * @fd: answer: the dma-buf
 *
 * It ends in padding but on i386, where it is 36 bytes long: the module knows
 * both.
 */
struct u_dma_buf_export_args {
	__u64 flags;
	__u64 size;
	__u64 offset;
	__u64 addr;
	int fd;
};

/*
 * A dma-buf of a part, which lives as long as anybody holds it, and keeps this
 * file open as long. If it is read-only, devices cannot write it either, and its
 * syncs drop nothing that others wrote. How it is mapped, its own O_SYNC says.
 * Errors:
 *   EINVAL  the range is empty, not whole pages, or not inside the buffer's
 *           pages; other flags
 *   EBADF   a descriptor for reading or writing asked of a file that is not
 *           open for it
 *   EBUSY   another file has claimed the range
 *   ENXIO   a kernel without dma-buf
 *   EOPNOTSUPP  memory without pages that another device could be given: a
 *           no-map region
 * and what making a descriptor gives (EMFILE, ENFILE, ENOMEM).
 */
#define U_DMA_BUF_IOCTL_EXPORT \
	_IOWR(U_DMA_BUF_IOCTL_TYPE, 10, struct u_dma_buf_export_args)

/*
 * Claims the buffer for this open file (whatever descriptors and processes
 * share it). Until the last reference to it is gone (descriptors, mappings and
 * exports made through it), it is the only user: open fails with EBUSY, and so does
 * writing the sysfs files. There is no other way to give a claim back.
 *
 * The argument holds U_DMA_BUF_CLAIM_* flags. Claiming again through the same
 * file succeeds and changes nothing. Errors:
 *   EBADF       the file is not open for both reading and writing
 *   EINVAL      an unknown flag
 *   EBUSY       another open file exists (if only in a mapping or an export), a
 *               sysfs write is under way, or the kernel has the buffer mapped
 *   EOWNERDEAD  a former user gave the buffer to the device and never took it
 *               back: the device may still write there. Who knows that it does
 *               not claims with U_DMA_BUF_CLAIM_ADOPT, and the owner becomes
 *               the CPU. What a claimant left so stays until then, even if who
 *               has no claim takes back a part, and the owner is the CPU.
 *
 * While the buffer is claimed, handing over a part counts its bytes, taking a
 * part back subtracts them, and the owner is the CPU again once none are left
 * or the whole buffer was taken back at once. So a claimant that crashes with
 * any part at the device leaves the device as the owner. It has to take back
 * just what it handed over: taking one part back twice would hide another.
 * Without a claim, taking back any part makes the CPU the owner.
 */
#define U_DMA_BUF_IOCTL_CLAIM \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 0x40, __u64)

#define U_DMA_BUF_CLAIM_ADOPT		(1ULL << 0)

/**
 * struct u_dma_buf_lent - the page behind the buffer's last one
 * @parts: how many parts of the buffer are at the device. The claimant counts;
 *         if it is not 0 when the claim ends, the owner is the device, as after
 *         a handover through the module.
 * @gone: not 0 once the buffer was removed. The module writes it.
 *
 * With it a program that needs no cache maintenance, or does its own
 * (U_DMA_BUF_CAP_USER_SYNC), hands parts over without a system call, and what
 * was under way when it died is known all the same. It is mapped from the file's
 * offset @size, rounded up to pages; only by the claimant of the whole buffer
 * (else EINVAL, as for any offset beyond the end), shared, and on its own. A
 * claim begins with @parts at 0. Being no part of the buffer, the page stays
 * mapped when that is removed.
 */
struct u_dma_buf_lent {
	__u32 parts;
	__u32 gone;
};

/**
 * struct u_dma_buf_claim_range - a range to claim
 * @offset: from the start of the buffer, whole pages
 * @size: bytes, whole pages
 * @flags: U_DMA_BUF_CLAIM_*
 */
struct u_dma_buf_claim_range {
	__u64 offset;
	__u64 size;
	__u64 flags;
};

/*
 * Claims a range for this open file, until it, its mappings and exports are
 * gone. Others can open the buffer and claim other ranges, but not map, read,
 * write, sync or export what overlaps this one (EBUSY), nor change the stored
 * settings. A file may hold several ranges. Errors: those of CLAIM, where EBUSY is another file's
 * claim, mapping or export of any of it, and
 *   EINVAL  empty, not whole pages, or not inside the buffer's pages
 *   ENOSPC  the buffer has as many claimed ranges as there can be
 * A claimant that ends with bytes at the device leaves the device as the owner
 * of the whole buffer.
 */
#define U_DMA_BUF_IOCTL_CLAIM_RANGE \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 0x43, struct u_dma_buf_claim_range)

/* Of a buffer: each costs the kernel memory, and whoever looks for one time. */
#define U_DMA_BUF_CLAIM_RANGES_MAX	256

/**
 * struct u_dma_buf_sync_range - one range of a batch
 * @offset: from the start of the buffer
 * @size: bytes; 0 is allowed and does nothing
 * @command: U_DMA_BUF_SYNC_FOR_CPU or U_DMA_BUF_SYNC_FOR_DEVICE
 * @direction: U_DMA_BUF_BIDIRECTIONAL, _TO_DEVICE or _FROM_DEVICE
 */
struct u_dma_buf_sync_range {
	__u64 offset;
	__u64 size;
	__u32 command;
	__u32 direction;
};

/**
 * struct u_dma_buf_sync_batch - ranges to hand over or take back
 * @ranges: address of an array of struct u_dma_buf_sync_range
 * @count: its length, at most U_DMA_BUF_SYNC_BATCH_MAX; 0 does nothing
 * @flags: 0
 */
struct u_dma_buf_sync_batch {
	__u64 ranges;
	__u32 count;
	__u32 flags;
};

#define U_DMA_BUF_SYNC_BATCH_MAX	4096

/*
 * Syncs in the order given, without the stored settings. All are checked before
 * the first is done. Needs writing. Errors, after which nothing has changed:
 *   EINVAL  an unknown flag, command or direction, too many ranges, or one that
 *           ends beyond the buffer's last page
 *   EBUSY   another file has claimed one of them
 * A long one lets others in between: then EINTR (a fatal signal) and EBUSY (a
 * claim that another file was given meanwhile) may end it after some ranges.
 */
#define U_DMA_BUF_IOCTL_SYNC_BATCH \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 0x42, struct u_dma_buf_sync_batch)

/*
 * How mappings that are made through this open file from now on reach memory,
 * whatever O_SYNC and sync_mode say. Errors:
 *   EINVAL      not one of the modes
 *   EOPNOTSUPP  this memory cannot be mapped so: a no-map region has no cache; a
 *               coherent device looks into the cache, which a mapping without it
 *               goes past; x86, and RISC-V without Svpbmt, have no such mappings
 */
#define U_DMA_BUF_IOCTL_SET_MAP_MODE \
	_IOW(U_DMA_BUF_IOCTL_TYPE, 0x44, __u64)

#define U_DMA_BUF_MAP_BY_FLAGS		0	/* by O_SYNC and sync_mode */
#define U_DMA_BUF_MAP_CACHED		1
#define U_DMA_BUF_MAP_UNCACHED		2
#define U_DMA_BUF_MAP_WRITE_COMBINED	3

/**
 * struct u_dma_buf_caps - what the driver offers for this buffer
 * @flags: U_DMA_BUF_CAP_*
 * @cache_alignment: parts used by CPU and device at the same time must begin
 *                   and end at multiples of this many bytes
 */
struct u_dma_buf_caps {
	__u64 flags;
	__u64 cache_alignment;
};

#define U_DMA_BUF_CAP_CLAIM		(1ULL << 0)	/* IOCTL_CLAIM */
#define U_DMA_BUF_CAP_CLAIM_RANGE	(1ULL << 1)	/* IOCTL_CLAIM_RANGE */
#define U_DMA_BUF_CAP_SYNC_BATCH	(1ULL << 2)	/* IOCTL_SYNC_BATCH */
#define U_DMA_BUF_CAP_LENT		(1ULL << 3)	/* struct u_dma_buf_lent */
#define U_DMA_BUF_CAP_MAP_MODE		(1ULL << 4)	/* IOCTL_SET_MAP_MODE */
#define U_DMA_BUF_CAP_EXPORT		(1ULL << 5)	/* IOCTL_EXPORT */
/*
 * Where the device is not coherent and the mapping is cached: the instructions
 * by which a program cleans and invalidates the cache by address (on arm64
 * DC CVAC, DC CIVAC) do what a sync does.
 */
#define U_DMA_BUF_CAP_USER_SYNC		(1ULL << 6)
/*
 * posix_fadvise() by a claimant is a sync of its range, U_DMA_BUF_BIDIRECTIONAL:
 * POSIX_FADV_DONTNEED hands it to the device, POSIX_FADV_NOREUSE takes it back
 * for the CPU. It is cheaper than the ioctls, and does and checks the same. Errors
 * are those of SYNC_BATCH, and EINVAL: an empty range. Other advice, and that of
 * others, means what it does for any file.
 */
#define U_DMA_BUF_CAP_ADVICE		(1ULL << 7)

/* Only reads. */
#define U_DMA_BUF_IOCTL_GET_CAPS \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 0x41, struct u_dma_buf_caps)

/**
 * struct u_dma_buf_parent - the device that the buffer was made for
 * @name: bus and device, as the property bind has them: "pci/0000:00:02.0";
 *        NUL-terminated, and empty if it was made for none
 *
 * GET_DEV_INFO's address is that device's, and may mean nothing to another one,
 * or other memory.
 */
struct u_dma_buf_parent {
	char name[128];
};

/*
 * Only reads. Errors:
 *   ENAMETOOLONG  there is no room for the name
 */
#define U_DMA_BUF_IOCTL_GET_PARENT \
	_IOR(U_DMA_BUF_IOCTL_TYPE, 0x45, struct u_dma_buf_parent)

#endif /* _UAPI_U_DMA_BUF_H */
