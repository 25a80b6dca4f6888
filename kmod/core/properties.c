// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A buffer's description in the device tree, or by what else gives a device
 * properties; an error line names the property that is wrong.
 */
#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/property.h>
#include <linux/string.h>

#include "udb.h"

int udb_check_number(struct device *dev, const char *property, u32 value, u32 min, u32 max)
{
	if (value >= min && value <= max)
		return 0;
	dev_err(dev, "property %s: %u is not in %u...%u\n", property, value, min, max);
	return -EINVAL;
}

/* Leaves *value alone if there is no such property. */
static int udb_read_u32(struct device *dev, const char *property,
			u32 min, u32 max, u32 *value)
{
	u32 v;
	int ret;

	if (!device_property_present(dev, property))
		return 0;
	if (device_property_count_u32(dev, property) != 1 ||
	    device_property_read_u32(dev, property, &v)) {
		dev_err(dev, "property %s: not one 32-bit number\n", property);
		return -EINVAL;
	}
	ret = udb_check_number(dev, property, v, min, max);
	if (ret)
		return ret;
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

static int udb_read_string(struct device *dev, const char *property, const char **value)
{
	if (!device_property_present(dev, property))
		return 0;
	if (device_property_read_string(dev, property, value)) {
		dev_err(dev, "property %s: not a string\n", property);
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
	return udb_read_u64(dev, "sync-size", &sync->size);
}

static const struct {
	const char *property;
	unsigned int mode;
} udb_quirks[] = {
	{ "quirk-mmap-on", UDB_MMAP_ON },
	{ "quirk-mmap-off", UDB_MMAP_OFF },
	{ "quirk-mmap-auto", UDB_MMAP_AUTO },
	{ "quirk-mmap-page", UDB_MMAP_PAGE },
};

/* UDB_MMAP_*, or 0: there is none of that name. */
unsigned int udb_quirk_mode(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(udb_quirks); i++)
		if (!strcmp(name, udb_quirks[i].property))
			return udb_quirks[i].mode;
	return 0;
}

/* The later in that order wins. */
static void udb_read_quirks(struct device *dev, struct udb_spec *spec)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(udb_quirks); i++)
		if (device_property_present(dev, udb_quirks[i].property))
			spec->mmap_mode = udb_quirks[i].mode;
}

/*
 * The properties are those of kmod/README.md. *spec has the defaults; *bind is
 * left alone if there is no such property.
 */
int udb_read_properties(struct device *dev, struct udb_spec *spec, const char **bind)
{
	u32 minor;
	int ret;

	ret = udb_read_u64(dev, "size", &spec->size);
	if (ret)
		return ret;

	if (device_property_present(dev, "minor-number")) {
		ret = udb_read_u32(dev, "minor-number", 0, UDB_MINORS - 1, &minor);
		if (ret)
			return ret;
		spec->minor = minor;
	}

	ret = udb_read_u32(dev, "dma-mask", UDB_DMA_MASK_MIN, UDB_DMA_MASK_MAX,
			   &spec->dma_mask_bits);
	if (ret)
		return ret;

	udb_read_quirks(dev, spec);
	spec->zero_between_users = device_property_present(dev, "zero-between-users");
	spec->keep_contents = device_property_present(dev, "keep-contents");

	ret = udb_read_string(dev, "device-name", &spec->name);
	if (ret)
		return ret;
	ret = udb_read_sync(dev, spec);
	if (ret)
		return ret;
	return udb_read_string(dev, "bind", bind);
}
