// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A buffer from creation to removal; see udb.h for its lifetime. */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "trace.h"
#include "udb.h"

static char *udb_devnode(udb_devnode_device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return NULL;
}

/* Not in the module's own memory: whoever holds it may outlive that. */
static struct class *udb_class;

int udb_class_init(void)
{
	udb_class = udb_class_create(UDB_NAME);
	if (IS_ERR(udb_class))
		return PTR_ERR(udb_class);
	udb_class->devnode = udb_devnode;
	return 0;
}

void udb_class_exit(void)
{
	class_destroy(udb_class);
}

static void udb_release(struct kref *ref)
{
	struct udb_buffer *buf = container_of(ref, struct udb_buffer, ref);

	put_device(buf->parent);
	iput(buf->inode);
	free_percpu(buf->counters);
	kfree(buf);
}

void udb_put(struct udb_buffer *buf)
{
	kref_put(&buf->ref, udb_release);
}

int udb_enter(struct udb_buffer *buf)
{
	down_read(&buf->life);
	if (!buf->gone)
		return 0;
	up_read(&buf->life);
	return -ENODEV;
}

void udb_leave(struct udb_buffer *buf)
{
	up_read(&buf->life);
}

/* For what does not touch the memory: is it still there? */
int udb_check(struct udb_buffer *buf)
{
	int ret = udb_enter(buf);

	if (!ret)
		udb_leave(buf);
	return ret;
}

/* After this nobody enters, and whoever was inside has left. */
static void udb_revoke(struct udb_buffer *buf)
{
	bool used;

	down_write(&buf->life);
	WRITE_ONCE(buf->gone, true);
	up_write(&buf->life);
	spin_lock(&buf->lock);
	used = buf->users;
	spin_unlock(&buf->lock);
	/* For syncs. All are a user's, and one from now on sees it gone. */
	if (used)
		synchronize_rcu_expedited();
	udb_lent_gone(buf);
}

/*
 * As a removal begins, but for a buffer that nobody uses; else -EBUSY. -ENODEV if
 * one has begun. vouched: no device writes there, or -EOWNERDEAD after a claimant who
 * left that open.
 */
int udb_buffer_close(struct udb_buffer *buf, bool vouched)
{
	int ret = 0;

	down_write(&buf->life);
	spin_lock(&buf->lock);
	/* The kernel's own mapping is one user. */
	if (buf->gone)
		ret = -ENODEV;
	else if (buf->users > (buf->vaddr ? 1 : 0))
		ret = -EBUSY;
	else if (buf->orphaned && !vouched)
		ret = -EOWNERDEAD;
	else
		WRITE_ONCE(buf->gone, true);
	spin_unlock(&buf->lock);
	up_write(&buf->life);
	return ret;
}

/*
 * A parent's mask is its driver's: it is only ever raised. Of its segments
 * nothing is said either, as its driver maps others.
 */
static int udb_setup_dma(struct device *own, const struct udb_spec *spec)
{
	struct device *dev = spec->parent ?: own;
	u64 mask = spec->dma_mask_bits ? DMA_BIT_MASK(spec->dma_mask_bits) : 0;
	int ret;

	if (spec->parent ? mask > dma_get_mask(dev) : mask) {
		ret = dma_set_mask_and_coherent(dev, mask);
		if (ret) {
			dev_err(own, "a DMA mask of %u bits is not possible: error %d\n",
				spec->dma_mask_bits, ret);
			return ret;
		}
	}
	if (udb_unencrypted(dev)) {
		dev_err(own, "this machine encrypts memory, but not what a device with a DMA mask of %d bits shares with it, and programs could not read that: boot with mem_encrypt=off, or, on no virtual machine, use a dma-mask of 64\n",
			fls64(dma_get_mask(dev)));
		return -EOPNOTSUPP;
	}
	if (!spec->parent) {
		dma_set_max_seg_size(dev, UINT_MAX);
		dma_set_seg_boundary(dev, ULONG_MAX);
	}
	return 0;
}

static struct udb_buffer *udb_buffer_new(struct device *own, const struct udb_spec *spec)
{
	struct device *dev = spec->parent ?: own;
	struct udb_buffer *buf;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	kref_init(&buf->ref);
	init_rwsem(&buf->life);
	mutex_init(&buf->opening);
	buf->zero_between_users = spec->zero_between_users;
	spin_lock_init(&buf->lock);
	buf->own = own;
	INIT_LIST_HEAD(&buf->claims);
	INIT_LIST_HEAD(&buf->uses);
	INIT_LIST_HEAD(&buf->pins);
	init_waitqueue_head(&buf->unpinned);
	buf->dev = dev;
	buf->size = spec->size;
	buf->sync = spec->sync;
	buf->dma_mask_bits = fls64(dma_get_mask(dev));
	buf->mmap_mode = spec->mmap_mode;
	/* It will be zeroed through the cache. */
	udb_cache_used(buf);
	buf->coherent = dev_is_dma_coherent(dev);

	buf->counters = udb_counters_new();
	if (!buf->counters)
		goto err_free;
	buf->inode = udb_inode_new();
	if (IS_ERR(buf->inode))
		goto err_counters;
	buf->parent = get_device(spec->parent);
	return buf;

err_counters:
	free_percpu(buf->counters);
err_free:
	kfree(buf);
	return ERR_PTR(-ENOMEM);
}

/* Makes the buffer visible; it has to be ready. */
static int udb_register(struct udb_buffer *buf, const char *name)
{
	static DEFINE_MUTEX(names_lock);
	struct device *taken, *sys_dev;

	mutex_lock(&names_lock);
	taken = class_find_device_by_name(udb_class, name);
	if (taken || (!udb_params_request(buf->own) && udb_params_want_name(name))) {
		put_device(taken);
		mutex_unlock(&names_lock);
		dev_err(buf->own, "the name %s is taken\n", name);
		return -EEXIST;
	}

	udb_minor_publish(buf->minor, buf);
	/* Released by the kernel's own code, as that may be after the module has gone. */
	sys_dev = device_create_with_groups(udb_class, buf->own, udb_devt(buf->minor),
					    buf, udb_groups, "%s", name);
	mutex_unlock(&names_lock);
	if (IS_ERR(sys_dev)) {
		udb_minor_publish(buf->minor, NULL);
		dev_err(buf->own, "no device %s: error %ld\n", name, PTR_ERR(sys_dev));
		return PTR_ERR(sys_dev);
	}
	/* With this, in-kernel searches find it. */
	smp_store_release(&buf->sys_dev, sys_dev);
	return 0;
}

static void udb_log_created(struct udb_buffer *buf)
{
	struct device *sys_dev = buf->sys_dev;

	if (udb_info_enable & UDB_INFO_INSTALL) {
		dev_info(sys_dev, "driver version = %s\n", UDB_VERSION);
		dev_info(sys_dev, "major number   = %u\n", MAJOR(sys_dev->devt));
		dev_info(sys_dev, "minor number   = %u\n", MINOR(sys_dev->devt));
		dev_info(sys_dev, "phys address   = %pad\n", &buf->memory.dma_addr);
		dev_info(sys_dev, "buffer size    = %zu\n", buf->size);
	}
	if (udb_info_enable & UDB_INFO_DMA) {
		dev_info(sys_dev, "dma mask bits  = %u\n", buf->dma_mask_bits);
		dev_info(sys_dev, "dma coherent   = %d\n", buf->coherent);
		dev_info(sys_dev, "cpu segments   = %u\n", buf->memory.nr_segments);
		dev_info(sys_dev, "cache line     = %d\n", dma_get_cache_alignment());
	}
	if (udb_info_enable & UDB_INFO_BUILD) {
		dev_info(sys_dev, "kernel version = %s\n", utsname()->release);
		dev_info(sys_dev, "ioctl version  = %d\n", U_DMA_BUF_IOCTL_VERSION);
		dev_info(sys_dev, "capabilities   = 0x%llx\n", udb_capabilities(buf));
	}
	if (udb_info_enable & UDB_INFO_INSTALL)
		dev_info(buf->own, "driver installed.\n");
}

/* Memory and all that can be seen of the buffer. */
static int udb_buffer_start(struct udb_buffer *buf, const struct udb_spec *spec)
{
	int ret;

	ret = udb_memory_alloc(buf, spec);
	if (ret)
		return ret;
	ret = udb_register(buf, spec->name);
	if (ret)
		goto err_revoke;
	return 0;

err_revoke:
	/* For a file opened before device_create_with_groups() failed. */
	udb_revoke(buf);
	unmap_mapping_range(buf->inode->i_mapping, 0, 0, 1);
	udb_wait_unpinned(buf);
	udb_memory_free(buf);
	return ret;
}

/* With spec->parent, if there is one, keeping its driver. */
static int udb_buffer_make(struct device *own, const struct udb_spec *spec)
{
	bool reserved = udb_params_request(own);
	struct udb_buffer *buf;
	int minor, ret;

	ret = udb_setup_dma(own, spec);
	if (ret)
		return ret;

	minor = reserved ? spec->minor : udb_minor_reserve(spec->minor);
	if (minor < 0) {
		if (spec->minor == UDB_ANY_MINOR)
			dev_err(own, "all %d minor numbers are taken\n", UDB_MINORS);
		else
			dev_err(own, "minor number %d is taken\n", spec->minor);
		return minor;
	}

	buf = udb_buffer_new(own, spec);
	if (IS_ERR(buf)) {
		ret = PTR_ERR(buf);
		goto err_minor;
	}
	buf->minor = minor;

	ret = udb_buffer_start(buf, spec);
	if (ret)
		goto err_buffer;
	dev_set_drvdata(own, buf);
	trace_u_dma_buf_create(buf->minor, buf->size, buf->memory.dma_addr);
	udb_log_created(buf);
	return 0;

err_buffer:
	udb_put(buf);
err_minor:
	if (!reserved)
		udb_minor_release(minor);
	return ret;
}

int udb_buffer_create(struct device *own)
{
	struct udb_spec spec;
	int ret;

	ret = udb_spec_init(own, &spec);
	if (ret)
		goto out;
	if (spec.parent && !spec.parent_asked) {
		ret = udb_parent_link(own, spec.parent);
		if (ret) {
			dev_err(own, "bind: %s %s\n", dev_name(spec.parent), ret == -EINVAL ?
				"has no driver, which would set up its DMA" :
				"cannot be linked to");
			goto out;
		}
	}
	ret = udb_buffer_make(own, &spec);
out:
	udb_spec_exit(&spec);
	return ret;
}

/* Takes the memory from whoever uses it, and the buffer out of sight. */
static void udb_buffer_retire(struct udb_buffer *buf)
{
	trace_u_dma_buf_remove(buf->minor, buf->size, buf->memory.dma_addr);
	udb_revoke(buf);
	/* No fault adds to the mappings any more. */
	unmap_mapping_range(buf->inode->i_mapping, 0, 0, 1);
	udb_minor_publish(buf->minor, NULL);
	/* Who sees it gone finds nothing of it left. */
	device_unregister(buf->sys_dev);
	udb_wait_unpinned(buf);
	udb_memory_vunmap(&buf->memory, buf->vaddr);
	udb_memory_free(buf);
}

void udb_buffer_remove(struct device *own)
{
	struct udb_buffer *buf = dev_get_drvdata(own);

	udb_buffer_retire(buf);
	if (!udb_params_request(own))
		udb_minor_release(buf->minor);
	udb_made_unbound(own);
	udb_put(buf);

	if (udb_info_enable & UDB_INFO_INSTALL)
		dev_info(own, "driver removed.\n");
}
