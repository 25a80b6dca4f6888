// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Buffers for another device, their parent: its IOMMU domain, its DMA mask.
 * Their memory goes before the parent's driver does, as that takes the
 * parent's DMA set-up with it. A buffer is then gone for whoever has it open;
 * what is left of it waits for its own device to be removed.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "udb.h"

/*
 * Held while a bound buffer is made, not while it goes: that may wait for an
 * importer, whose own driver's removal comes through here.
 */
static DEFINE_MUTEX(udb_parents_lock);
static LIST_HEAD(udb_bound);

/*
 * The device of that name, with a reference, or -EINVAL. No bus: platform.
 */
struct device *udb_parent_find(const char *bus, const char *name)
{
	struct device *parent = NULL;

	if (!bus || !strcmp(bus, "platform"))
		parent = bus_find_device_by_name(&platform_bus_type, NULL, name);
#if IS_ENABLED(CONFIG_PCI)
	else if (!strcmp(bus, "pci"))
		parent = bus_find_device_by_name(&pci_bus_type, NULL, name);
#endif
	return parent ?: ERR_PTR(-EINVAL);
}

/* As in the parameter bind: "<bus>/<device>" or "<device>". */
struct device *udb_parent_find_bound(const char *bind)
{
	const char *slash = strchr(bind, '/');
	struct device *parent;
	char *bus;

	if (!slash)
		return udb_parent_find(NULL, bind);
	bus = kstrndup(bind, slash - bind, GFP_KERNEL);
	if (!bus)
		return ERR_PTR(-ENOMEM);
	parent = udb_parent_find(bus, slash + 1);
	kfree(bus);
	return parent;
}

/*
 * Until udb_parent_unlock() the parent keeps its driver. A driver that is being
 * unbound has said so in the status before we are told of it.
 */
int udb_parent_lock(struct device *parent)
{
	enum dl_dev_state status;

	mutex_lock(&udb_parents_lock);
	status = READ_ONCE(parent->links.status);
	if (status == DL_DEV_DRIVER_BOUND || status == DL_DEV_PROBING)
		return 0;
	mutex_unlock(&udb_parents_lock);
	return -ENODEV;
}

void udb_parent_unlock(void)
{
	mutex_unlock(&udb_parents_lock);
}

/* Between udb_parent_lock() and udb_parent_unlock(). */
void udb_parent_add(struct udb_buffer *buf)
{
	list_add(&buf->bound, &udb_bound);
}

/* Of any buffer: false if it went with its parent. */
bool udb_parent_forget(struct udb_buffer *buf)
{
	bool there;

	mutex_lock(&udb_parents_lock);
	there = !buf->parent || !list_empty(&buf->bound);
	list_del_init(&buf->bound);
	mutex_unlock(&udb_parents_lock);
	if (!there)
		wait_for_completion(&buf->retired);
	return there;
}

/* Takes one of its buffers from the list, with a reference; or NULL. */
static struct udb_buffer *udb_parent_take(struct device *parent)
{
	struct udb_buffer *buf, *found = NULL;

	mutex_lock(&udb_parents_lock);
	list_for_each_entry(buf, &udb_bound, bound) {
		if (buf->parent != parent)
			continue;
		list_del_init(&buf->bound);
		kref_get(&buf->ref);
		found = buf;
		break;
	}
	mutex_unlock(&udb_parents_lock);
	return found;
}

static void udb_parent_lost(struct device *parent)
{
	struct udb_buffer *buf;

	while ((buf = udb_parent_take(parent))) {
		dev_warn(buf->own, "%s loses its driver: the buffer goes\n", dev_name(parent));
		udb_buffer_retire(buf);
		complete(&buf->retired);
		udb_put(buf);
	}
}

static int udb_parent_event(struct notifier_block *block, unsigned long action, void *data)
{
	switch (action) {
	case BUS_NOTIFY_UNBIND_DRIVER:
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
	case BUS_NOTIFY_DEL_DEVICE:
		udb_parent_lost(data);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block udb_platform_block = { .notifier_call = udb_parent_event };
#if IS_ENABLED(CONFIG_PCI)
static struct notifier_block udb_pci_block = { .notifier_call = udb_parent_event };
#endif

int udb_parent_init(void)
{
	int ret = bus_register_notifier(&platform_bus_type, &udb_platform_block);

#if IS_ENABLED(CONFIG_PCI)
	if (ret)
		return ret;
	ret = bus_register_notifier(&pci_bus_type, &udb_pci_block);
	if (ret)
		bus_unregister_notifier(&platform_bus_type, &udb_platform_block);
#endif
	return ret;
}

void udb_parent_exit(void)
{
#if IS_ENABLED(CONFIG_PCI)
	bus_unregister_notifier(&pci_bus_type, &udb_pci_block);
#endif
	bus_unregister_notifier(&platform_bus_type, &udb_platform_block);
}
