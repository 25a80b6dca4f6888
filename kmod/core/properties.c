// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A buffer's description: read from device properties (device tree or
 * software node) and checked, with an error line that names what is wrong.
 */
#include <linux/ctype.h>
#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/property.h>
#include <linux/string.h>

#include "udb.h"

/* Leaves *value alone if there is no such property. */
static int udb_read_u32(struct device *dev, const char *property,
			u32 min, u32 max, u32 *value)
{
	u32 v;

	if (!device_property_present(dev, property))
		return 0;
	if (device_property_count_u32(dev, property) != 1 ||
	    device_property_read_u32(dev, property, &v)) {
		dev_err(dev, "property %s: not one 32-bit number\n", property);
		return -EINVAL;
	}
	if (v < min || v > max) {
		dev_err(dev, "property %s: %u is not in %u...%u\n",
			property, v, min, max);
		return -EINVAL;
	}
	*value = v;
	return 0;
}

/* One cell or two. Leaves *value alone if there is no such property. */
static int udb_read_u64(struct device *dev, const char *property, u64 *value)
{
	u32 v;

	if (!device_property_present(dev, property))
		return 0;
	switch (device_property_count_u32(dev, property)) {
	case 1:
		if (device_property_read_u32(dev, property, &v))
			break;
		*value = v;
		return 0;
	case 2:
		if (device_property_read_u64(dev, property, value))
			break;
		return 0;
	}
	dev_err(dev, "property %s: not one 32-bit or 64-bit number\n", property);
	return -EINVAL;
}

/*
 * The name becomes a file in /dev and a directory in sysfs; the kernel turns
 * '!' into '/' there.
 */
static bool udb_name_ok(const char *name)
{
	const char *p;

	if (!*name || strlen(name) > UDB_NAME_MAX)
		return false;
	if (!strcmp(name, ".") || strstr(name, ".."))
		return false;
	for (p = name; *p; p++)
		if (!isascii(*p) || !isgraph(*p) || *p == '/' || *p == '!')
			return false;
	return true;
}

static int udb_read_name(struct device *dev, struct udb_spec *spec)
{
	if (device_property_present(dev, "device-name")) {
		if (device_property_read_string(dev, "device-name", &spec->name)) {
			dev_err(dev, "property device-name: not a string\n");
			return -EINVAL;
		}
	} else if (spec->minor != UDB_ANY_MINOR) {
		spec->name = devm_kasprintf(dev, GFP_KERNEL, "udmabuf%d", spec->minor);
		if (!spec->name)
			return -ENOMEM;
	} else {
		spec->name = dev_name(dev);
	}

	if (!udb_name_ok(spec->name)) {
		dev_err(dev, "device name \"%*pE\" is not allowed: 1...%d printable characters without '/', '!' and \"..\"\n",
			(int)strnlen(spec->name, UDB_NAME_MAX + 1), spec->name,
			UDB_NAME_MAX);
		return -EINVAL;
	}
	return 0;
}

static int udb_read_sync(struct device *dev, struct udb_spec *spec)
{
	struct udb_sync_settings *sync = &spec->sync;
	int ret;

	sync->mode = 1;
	ret = udb_read_u32(dev, "sync-mode", 1, 3, &sync->mode);
	if (ret)
		return ret;
	if (device_property_present(dev, "sync-always"))
		sync->mode |= UDB_SYNC_MODE_ALWAYS;

	sync->direction = U_DMA_BUF_BIDIRECTIONAL;
	ret = udb_read_u32(dev, "sync-direction", 0, 2, &sync->direction);
	if (ret)
		return ret;

	sync->offset = 0;
	ret = udb_read_u64(dev, "sync-offset", &sync->offset);
	if (ret)
		return ret;
	sync->size = spec->size - min(spec->size, sync->offset);
	ret = udb_read_u64(dev, "sync-size", &sync->size);
	if (ret)
		return ret;

	if (!udb_range_ok(spec->size, sync->offset, sync->size)) {
		dev_err(dev, "properties sync-offset and sync-size: %llu bytes at 0x%llx are outside the buffer of %llu bytes\n",
			sync->size, sync->offset, spec->size);
		return -EINVAL;
	}
	return 0;
}

/* Whom the buffer is for. */
static int udb_read_parent(struct device *dev, struct udb_spec *spec)
{
	const char *bind;
	int ret;

	if (!device_property_present(dev, "bind"))
		return 0;
	if (device_property_read_string(dev, "bind", &bind)) {
		dev_err(dev, "property bind: not a string\n");
		return -EINVAL;
	}
	spec->parent = udb_parent_find_bound(bind);
	if (!IS_ERR(spec->parent))
		return 0;
	ret = PTR_ERR(spec->parent);
	spec->parent = NULL;
	dev_err(dev, "bind: no device %s; bind is [pci/|platform/]<device>\n", bind);
	return ret;
}

/* The later in this order wins. */
static void udb_read_mmap_mode(struct device *dev, struct udb_spec *spec)
{
	static const struct {
		const char *property;
		unsigned int mode;
	} modes[] = {
		{ "quirk-mmap-on", UDB_MMAP_ON },
		{ "quirk-mmap-off", UDB_MMAP_OFF },
		{ "quirk-mmap-auto", UDB_MMAP_AUTO },
		{ "quirk-mmap-page", UDB_MMAP_PAGE },
	};
	unsigned int i;

	spec->mmap_mode = udb_quirk_mmap_mode;
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (device_property_present(dev, modes[i].property))
			spec->mmap_mode = modes[i].mode;
}

void udb_spec_release(struct udb_spec *spec)
{
	put_device(spec->parent);
}

/*
 * The properties are those of kmod/README.md. On error, too, the caller calls
 * udb_spec_release(); *spec begins zeroed.
 */
int udb_read_properties(struct device *dev, struct udb_spec *spec)
{
	u32 minor;
	int ret;

	spec->size = 0;
	ret = udb_read_u64(dev, "size", &spec->size);
	if (ret)
		return ret;
	if (!spec->size) {
		dev_err(dev, "property size: missing or 0\n");
		return -EINVAL;
	}
	if (spec->size > SIZE_MAX - PAGE_SIZE) {
		dev_err(dev, "no memory: %llu bytes are more than this machine can address\n",
			spec->size);
		return -ENOMEM;
	}

	spec->minor = UDB_ANY_MINOR;
	if (device_property_present(dev, "minor-number")) {
		ret = udb_read_u32(dev, "minor-number", 0, UDB_MINORS - 1, &minor);
		if (ret)
			return ret;
		spec->minor = minor;
	}

	spec->dma_mask_bits = 0;
	ret = udb_read_u32(dev, "dma-mask", 12, 64, &spec->dma_mask_bits);
	if (ret)
		return ret;

	udb_read_mmap_mode(dev, spec);
	spec->zero_between_users = device_property_present(dev, "zero-between-users");
	spec->keep_contents = device_property_present(dev, "keep-contents");

	ret = udb_read_name(dev, spec);
	if (ret)
		return ret;
	ret = udb_read_sync(dev, spec);
	if (ret)
		return ret;
	return udb_read_parent(dev, spec);
}
