// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * EXPORT: a dma-buf of a range. It holds the open file that it was made through,
 * and so the buffer; what that file claimed stays claimed.
 *
 * Mappings of it go the way of the file's own, and are taken away at a forced
 * removal like them. What an importer has mapped for its device, or the kernel
 * for itself, cannot be: removal waits for that.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/stddef.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "udb.h"

struct udb_export {
	struct file *file;		/* of use.user */
	struct udb_use use;
	unsigned int flags;		/* as asked for; the dma-buf's own lack O_SYNC */
	bool writable;
	struct udb_pin vmap_pin;
	void *vaddr;
	struct mutex lock;		/* of attachments and vmap_pin */
	struct list_head attachments;	/* those mapped */
};

/* An importer's view. */
struct udb_attachment {
	struct list_head link;
	struct udb_pin pin;
	struct sg_table sgt;
	enum dma_data_direction dir;
};

/*
 * How much one entry may hold: a gibibyte at most, as lengths have 32 bits, none
 * of it beyond a boundary of that many, and no more than the importer takes.
 */
static size_t udb_entry_len(const struct udb_memory *mem, struct device *dev,
			    size_t offset, size_t rest)
{
	phys_addr_t start = PFN_PHYS(udb_memory_pfn(mem, offset));
	size_t most = min_t(size_t, SZ_1G, dma_get_max_seg_size(dev) & PAGE_MASK);

	most = min_t(size_t, most, SZ_1G - (start & (SZ_1G - 1)));
	return min3(rest, most, udb_memory_contiguous(mem, offset));
}

/* Between udb_enter() and udb_leave(). */
static int udb_fill_table(const struct udb_export *export, struct device *dev,
			  struct sg_table *sgt)
{
	const struct udb_memory *mem = &export->use.user->buf->memory;
	u64 end = export->use.offset + export->use.size;
	struct scatterlist *sg;
	unsigned int entries = 0;
	size_t offset, len;
	int ret;

	for (offset = export->use.offset; offset < end; offset += len) {
		len = udb_entry_len(mem, dev, offset, end - offset);
		if (!len)
			return -EINVAL;
		entries++;
	}
	ret = sg_alloc_table(sgt, entries, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;

	sg = sgt->sgl;
	for (offset = export->use.offset; offset < end; offset += len) {
		len = udb_entry_len(mem, dev, offset, end - offset);
		sg_set_page(sg, pfn_to_page(udb_memory_pfn(mem, offset)), len, 0);
		sg = sg_next(sg);
	}
	return 0;
}

static int udb_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct udb_export *export = dmabuf->priv;
	struct udb_buffer *buf = export->use.user->buf;
	struct udb_attachment *a;
	int ret;

	a = kzalloc(sizeof(*a), GFP_KERNEL_ACCOUNT);
	if (!a)
		return -ENOMEM;
	ret = udb_enter(buf);
	if (ret)
		goto err_free;
	ret = udb_fill_table(export, attach->dev, &a->sgt);
	udb_leave(buf);
	if (ret)
		goto err_free;
	attach->priv = a;
	return 0;

err_free:
	kfree(a);
	return ret;
}

static void udb_detach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct udb_attachment *a = attach->priv;

	sg_free_table(&a->sgt);
	kfree(a);
}

static struct sg_table *udb_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct udb_export *export = attach->dmabuf->priv;
	struct udb_buffer *buf = export->use.user->buf;
	struct udb_attachment *a = attach->priv;
	int ret;

	/* A device writes through the file that the program had. */
	if (!export->writable && dir != DMA_TO_DEVICE)
		return ERR_PTR(-EACCES);

	mutex_lock(&export->lock);
	ret = udb_enter(buf);
	if (ret)
		goto out;
	/*
	 * Synced apart: the owner's device has the memory mapped, too, which the DMA
	 * API takes for a mistake of two that sync while they map.
	 */
	ret = dma_map_sgtable(attach->dev, &a->sgt, dir, DMA_ATTR_SKIP_CPU_SYNC);
	if (!ret) {
		dma_sync_sgtable_for_device(attach->dev, &a->sgt, dir);
		a->dir = dir;
		list_add(&a->link, &export->attachments);
		udb_pin(buf, &a->pin, attach->dev);
	}
	udb_leave(buf);
out:
	mutex_unlock(&export->lock);
	return ret ? ERR_PTR(ret) : &a->sgt;
}

static void udb_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		      enum dma_data_direction dir)
{
	struct udb_export *export = attach->dmabuf->priv;
	struct udb_attachment *a = attach->priv;

	mutex_lock(&export->lock);
	list_del(&a->link);
	dma_sync_sgtable_for_cpu(attach->dev, sgt, dir);
	dma_unmap_sgtable(attach->dev, sgt, dir, DMA_ATTR_SKIP_CPU_SYNC);
	udb_unpin(export->use.user->buf, &a->pin);
	mutex_unlock(&export->lock);
}

/* All of an importer's table at once: the DMA API knows no part of one. */
static int udb_sync_attachments(struct udb_export *export, bool for_device)
{
	struct udb_attachment *a;

	list_for_each_entry(a, &export->attachments, link) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (for_device)
			dma_sync_sgtable_for_device(a->pin.dev, &a->sgt, a->dir);
		else
			dma_sync_sgtable_for_cpu(a->pin.dev, &a->sgt, a->dir);
		cond_resched();
	}
	return 0;
}

/* For the owner's device. Who cannot write drops nothing that others wrote. */
static int udb_sync_export(struct udb_export *export, enum dma_data_direction dir,
			   bool for_device)
{
	const struct udb_use *use = &export->use;
	struct udb_buffer *buf = use->user->buf;

	if (export->writable || dir == DMA_TO_DEVICE)
		return udb_sync_memory(buf, use->user, use->offset, use->size, dir, for_device);
	if (for_device)
		return udb_check(buf);
	return udb_sync_reader(buf, use->user, use->offset, use->size);
}

/* The owner's device last for the CPU, first for the devices: they may bounce. */
static int udb_begin_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct udb_export *export = dmabuf->priv;
	int ret = mutex_lock_killable(&export->lock);

	if (ret)
		return ret;
	ret = udb_sync_attachments(export, false);
	ret = ret ?: udb_sync_export(export, dir, false);
	mutex_unlock(&export->lock);
	return ret;
}

static int udb_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct udb_export *export = dmabuf->priv;
	int ret = mutex_lock_killable(&export->lock);

	if (ret)
		return ret;
	ret = udb_sync_export(export, dir, true);
	ret = ret ?: udb_sync_attachments(export, true);
	mutex_unlock(&export->lock);
	return ret;
}

static int udb_export_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct udb_export *export = dmabuf->priv;
	unsigned long pages = export->use.size >> PAGE_SHIFT;

	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* Through an importer's file, which may be open for writing. */
	if (!export->writable && (vma->vm_flags & VM_MAYWRITE))
		return -EACCES;
	vma->vm_pgoff += export->use.offset >> PAGE_SHIFT;
	return udb_mmap_use(export->use.user, export->flags, vma);
}

/* The core calls it once for any number of users. */
static void *udb_vmap(struct dma_buf *dmabuf)
{
	struct udb_export *export = dmabuf->priv;
	struct udb_buffer *buf = export->use.user->buf;
	int ret = udb_enter(buf);

	if (ret)
		return ERR_PTR(ret);
	export->vaddr = udb_memory_vmap(&buf->memory, export->use.offset, export->use.size);
	if (export->vaddr) {
		udb_cache_used(buf);
		udb_pin(buf, &export->vmap_pin, NULL);
	}
	udb_leave(buf);
	return export->vaddr ?: ERR_PTR(-ENOMEM);
}

static void udb_vunmap(struct dma_buf *dmabuf)
{
	struct udb_export *export = dmabuf->priv;

	udb_memory_vunmap(&export->use.user->buf->memory, export->vaddr);
	udb_cache_used(export->use.user->buf);
	udb_unpin(export->use.user->buf, &export->vmap_pin);
}

UDB_DMA_BUF_VMAP_OPS(udb_vmap, udb_vunmap)

static void udb_export_release(struct dma_buf *dmabuf)
{
	struct udb_export *export = dmabuf->priv;

	udb_use_end(&export->use);
	fput(export->file);
	kfree(export);
}

static const struct dma_buf_ops udb_export_ops = {
	.attach = udb_attach,
	.detach = udb_detach,
	.map_dma_buf = udb_map,
	.unmap_dma_buf = udb_unmap,
	.begin_cpu_access = udb_begin_cpu_access,
	.end_cpu_access = udb_end_cpu_access,
	.mmap = udb_export_mmap,
	.vmap = udb_vmap_op,
	.vunmap = udb_vunmap_op,
	.release = udb_export_release,
};

/* With a reference, which udb_export_release() ends. */
static struct dma_buf *udb_export_new(struct file *file, const struct u_dma_buf_export_args *args)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct udb_file *user = file->private_data;
	struct udb_export *export;
	struct dma_buf *dmabuf;
	int ret;

	export = kzalloc(sizeof(*export), GFP_KERNEL_ACCOUNT);
	if (!export)
		return ERR_PTR(-ENOMEM);
	mutex_init(&export->lock);
	INIT_LIST_HEAD(&export->attachments);
	export->flags = args->flags;
	export->writable = (args->flags & O_ACCMODE) != O_RDONLY;
	ret = udb_use_begin(&export->use, user, args->offset, args->size);
	if (ret)
		goto err_free;

	info.exp_name = UDB_NAME;
	info.ops = &udb_export_ops;
	info.size = args->size;
	info.flags = args->flags;
	info.priv = export;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_use;
	}
	export->file = get_file(file);
	/* Where removal finds its VMAs; it lives as long as the file. */
	dmabuf->file->f_mapping = user->buf->inode->i_mapping;
	return dmabuf;

err_use:
	udb_use_end(&export->use);
err_free:
	kfree(export);
	return ERR_PTR(ret);
}

static int udb_export_check(struct file *file, const struct u_dma_buf_export_args *args)
{
	const struct udb_file *user = file->private_data;
	unsigned int access = args->flags & O_ACCMODE;

	if (args->flags & ~(u64)(O_CLOEXEC | O_SYNC | O_ACCMODE) || access == O_ACCMODE)
		return -EINVAL;
	if (!args->size || !PAGE_ALIGNED(args->offset | args->size) ||
	    !udb_range_ok(user->buf->size, args->offset, args->size))
		return -EINVAL;
	/* No pages that another device could be given. */
	if (user->buf->memory.uncached)
		return -EOPNOTSUPP;
	if ((access != O_WRONLY && !(file->f_mode & FMODE_READ)) ||
	    (access != O_RDONLY && !(file->f_mode & FMODE_WRITE)))
		return -EBADF;
	return 0;
}

/* arg ends with the descriptor: i386 has nothing after it. */
int udb_export(struct file *file, void __user *arg)
{
	const size_t len = offsetofend(struct u_dma_buf_export_args, fd);
	struct udb_file *user = file->private_data;
	struct u_dma_buf_export_args args;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&args, arg, len))
		return -EFAULT;
	ret = udb_export_check(file, &args);
	if (ret)
		return ret;

	/* Nobody sees the descriptor before the answer is there. */
	args.fd = get_unused_fd_flags(args.flags & O_CLOEXEC);
	if (args.fd < 0)
		return args.fd;
	dmabuf = udb_export_new(file, &args);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_fd;
	}
	args.addr = user->buf->memory.dma_addr + args.offset;
	if (copy_to_user(arg, &args, len)) {
		ret = -EFAULT;
		goto err_dmabuf;
	}
	fd_install(args.fd, dmabuf->file);
	return 0;

err_dmabuf:
	dma_buf_put(dmabuf);
err_fd:
	put_unused_fd(args.fd);
	return ret;
}

UDB_IMPORT_NS_DMA_BUF;
