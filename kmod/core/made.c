// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Buffers that the manager or another module asks for: each becomes a platform
 * device, and goes the way of a device-tree node from there.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/seq_buf.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "udb.h"

struct udb_made {
	struct list_head link;
	struct platform_device *pdev;
	struct udb_request request;	/* with strings, and a reference to parent */
	int error;		/* how its probe ended, which adding it does not tell */
	/* With udb_made_lock held: while it is bound. */
	struct udb_buffer *buf;
	/* Of a buffer that another module asked for: it tells when it is through. */
	struct udb_pin pin;
};

/* One creation or deletion at a time. */
static DEFINE_MUTEX(udb_made_mutex);
/* For the list, which probes look into. */
static DEFINE_SPINLOCK(udb_made_lock);
static LIST_HEAD(udb_made_all);

static struct udb_made *udb_made_find(struct device *dev)
{
	struct udb_made *made, *found = NULL;

	spin_lock(&udb_made_lock);
	list_for_each_entry(made, &udb_made_all, link)
		if (&made->pdev->dev == dev)
			found = made;
	spin_unlock(&udb_made_lock);
	return found;
}

void udb_made_probed(struct device *dev, int error)
{
	struct udb_made *made = udb_made_find(dev);

	if (!made)
		return;
	made->error = error;
	if (error)
		return;
	spin_lock(&udb_made_lock);
	made->buf = dev_get_drvdata(dev);
	if (!made->request.by_manager)
		udb_pin(made->buf, &made->pin, NULL);
	spin_unlock(&udb_made_lock);
}

/* Its buffer is gone; the device may be bound again. */
void udb_made_unbound(struct device *dev)
{
	struct udb_made *made = udb_made_find(dev);

	if (!made)
		return;
	spin_lock(&udb_made_lock);
	made->buf = NULL;
	spin_unlock(&udb_made_lock);
}

/* In the probe of dev: NULL if it is none of those. */
const struct udb_request *udb_made_request(struct device *dev)
{
	struct udb_made *made = udb_made_find(dev);

	return made ? &made->request : NULL;
}

static void udb_made_forget(struct udb_made *made)
{
	spin_lock(&udb_made_lock);
	list_del(&made->link);
	spin_unlock(&udb_made_lock);
}

static void udb_made_unpin(struct udb_made *made)
{
	/* Pinned, it cannot go. */
	if (!made->request.by_manager && made->buf)
		udb_unpin(made->buf, &made->pin);
}

static void udb_made_kfree(struct udb_made *made)
{
	put_device(made->request.parent);
	kfree(made->request.name);
	kfree(made->request.bind);
	kfree(made);
}

/* Nobody knows of it yet. NULL: no memory. */
static struct udb_made *udb_made_new(const struct udb_request *request)
{
	struct udb_made *made = kzalloc(sizeof(*made), GFP_KERNEL);

	if (!made)
		return NULL;
	made->error = -ENXIO;
	made->request = *request;
	get_device(request->parent);
	made->request.name = kstrdup(request->name, GFP_KERNEL);
	made->request.bind = kstrdup(request->bind, GFP_KERNEL);
	made->pdev = platform_device_alloc(UDB_NAME, PLATFORM_DEVID_AUTO);
	if (!made->pdev || !made->request.name != !request->name ||
	    !made->request.bind != !request->bind) {
		platform_device_put(made->pdev);
		udb_made_kfree(made);
		return NULL;
	}
	/* Nothing to suspend, and no files that would say so. */
	device_set_pm_not_required(&made->pdev->dev);
	/* Programs are told of the buffer's own device. */
	dev_set_uevent_suppress(&made->pdev->dev, true);
	return made;
}

/*
 * Out of the list, so before its address can be another device's. Without
 * udb_made_mutex: the removal may wait for who has pinned pages.
 */
static void udb_made_free(struct udb_made *made)
{
	udb_made_unpin(made);
	platform_device_del(made->pdev);
	platform_device_put(made->pdev);
	udb_made_kfree(made);
}

/*
 * The parent's driver has been removed, its DMA set-up not yet. What it made and
 * did not remove, maybe as programs still use it, goes now.
 */
static void udb_made_orphaned(void *data)
{
	struct udb_made *made = data;

	mutex_lock(&udb_made_mutex);
	udb_made_forget(made);
	mutex_unlock(&udb_made_mutex);
	udb_made_free(made);
}

/* The device, without a reference, or an error pointer. */
struct device *udb_made_create(const struct udb_request *request)
{
	struct udb_made *made = udb_made_new(request);
	int ret;

	if (!made)
		return ERR_PTR(-ENOMEM);
	mutex_lock(&udb_made_mutex);
	spin_lock(&udb_made_lock);
	list_add_tail(&made->link, &udb_made_all);
	spin_unlock(&udb_made_lock);
	ret = platform_device_add(made->pdev);
	if (ret)
		goto err_forget;
	ret = made->error;
	if (!ret && made->request.parent)
		ret = devm_add_action(made->request.parent, udb_made_orphaned, made);
	if (ret)
		goto err_del;
	mutex_unlock(&udb_made_mutex);
	return &made->pdev->dev;

err_del:
	udb_made_unpin(made);
	platform_device_del(made->pdev);
err_forget:
	udb_made_forget(made);
	mutex_unlock(&udb_made_mutex);
	platform_device_put(made->pdev);
	udb_made_kfree(made);
	return ERR_PTR(ret);
}

/*
 * -EBUSY while it is in use, by more than the kernel's own mapping; else
 * forgotten. Another module, whose buffer it is, knows of its device; the manager
 * does not.
 */
static int udb_made_retire(struct udb_made *made)
{
	struct udb_buffer *buf;
	int ret = 0;

	spin_lock(&udb_made_lock);
	buf = made->buf;
	if (buf)
		kref_get(&buf->ref);
	spin_unlock(&udb_made_lock);
	if (buf) {
		ret = udb_buffer_close(buf, !made->request.by_manager);
		udb_put(buf);
	}
	/* Somebody unbinds it, and may have to wait: for its maker. */
	if (ret == -ENODEV)
		ret = made->request.by_manager ? -EBUSY : 0;
	if (ret)
		return ret;
	if (made->request.parent)
		devm_remove_action(made->request.parent, udb_made_orphaned, made);
	udb_made_forget(made);
	return 0;
}

/* What the manager made. */
int udb_made_delete(const char *name)
{
	struct udb_made *made;
	int ret = -EINVAL;

	mutex_lock(&udb_made_mutex);
	list_for_each_entry(made, &udb_made_all, link) {
		if (!made->request.by_manager || strcmp(made->request.name, name))
			continue;
		ret = udb_made_retire(made);
		break;
	}
	mutex_unlock(&udb_made_mutex);
	if (!ret)
		udb_made_free(made);
	return ret;
}

/* What another module made. */
int udb_made_remove(struct device *dev)
{
	struct udb_made *made;
	int ret = -EINVAL;

	mutex_lock(&udb_made_mutex);
	made = udb_made_find(dev);
	if (made && !made->request.by_manager)
		ret = udb_made_retire(made);
	mutex_unlock(&udb_made_mutex);
	if (!ret)
		udb_made_free(made);
	return ret;
}

void udb_made_remove_all(void)
{
	struct udb_made *made, *next;

	/* Nobody else is left. */
	list_for_each_entry_safe(made, next, &udb_made_all, link) {
		if (made->request.parent)
			devm_remove_action(made->request.parent, udb_made_orphaned, made);
		udb_made_forget(made);
		udb_made_free(made);
	}
}

/* What the manager made, a line each, to be freed with kvfree(); or NULL. */
char *udb_made_list(void)
{
	const size_t size = UDB_MINORS * (UDB_NAME_MAX + 32);
	char *text = kvmalloc(size, GFP_KERNEL);
	struct udb_made *made;
	struct seq_buf s;

	if (!text)
		return NULL;
	seq_buf_init(&s, text, size - 1);
	mutex_lock(&udb_made_mutex);
	list_for_each_entry(made, &udb_made_all, link)
		if (made->request.by_manager)
			seq_buf_printf(&s, "%s %llu\n", made->request.name,
				       made->request.size);
	mutex_unlock(&udb_made_mutex);
	text[seq_buf_used(&s)] = '\0';
	return text;
}
