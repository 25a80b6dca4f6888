// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Buffers for another device, their parent: its IOMMU domain, its DMA mask. A
 * device link has the driver core unbind the buffer's own device before it
 * unbinds the parent, whose DMA set-up goes with its driver.
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "udb.h"

/*
 * The device of that name, with a reference, or -EINVAL. No bus: platform.
 */
static struct device *udb_parent_find(const char *bus, const char *name)
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

static bool udb_parent_is_bound(struct device *parent)
{
	/* Before the state of a link is looked at. */
	return smp_load_acquire(&parent->links.status) == DL_DEV_DRIVER_BOUND;
}

/*
 * In the probe of own: until own is unbound again, the parent keeps its driver.
 * -EINVAL if it has none. One that probes is none yet: it may wait for what it
 * needs, with no driver and no DMA set-up, or fail.
 */
int udb_parent_link(struct device *own, struct device *parent)
{
	struct device_link *link;

	if (!udb_parent_is_bound(parent))
		return -EINVAL;
	link = device_link_add(own, parent, DL_FLAG_AUTOREMOVE_CONSUMER);
	if (!link)
		return -ENOMEM;
	/*
	 * As long as the link is in this state, a removal of the parent's driver
	 * waits for our probe. It leaves it for good if that driver goes: so if it
	 * is in it after the parent was seen bound, it was so then.
	 */
	if (!udb_parent_is_bound(parent) ||
	    READ_ONCE(link->status) != DL_STATE_CONSUMER_PROBE)
		return -EINVAL;
	return 0;
}
