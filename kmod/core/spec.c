// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a device's buffer is to be: as asked for by who made the device, or else by
 * its properties. Checked, with an error line that says what is wrong.
 */
#include <linux/ctype.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "udb.h"

static int udb_spec_request(struct device *dev, const struct udb_request *request,
			    struct udb_spec *spec)
{
	unsigned int mask = request->dma_mask_bits;
	int ret;

	spec->name = request->name;
	spec->size = request->size;
	spec->sync.size = request->size;
	spec->minor = request->minor;
	if (request->minor != UDB_ANY_MINOR) {
		ret = udb_check_number(dev, "minor-number", request->minor, 0, UDB_MINORS - 1);
		if (ret)
			return ret;
	}
	/* A parent has a mask of its own. */
	if (!mask && !request->bind && !request->parent)
		mask = udb_dma_mask_bit;
	if (mask) {
		ret = udb_check_number(dev, "dma-mask", mask, UDB_DMA_MASK_MIN,
				       UDB_DMA_MASK_MAX);
		if (ret)
			return ret;
	}
	spec->dma_mask_bits = mask;
	if (request->mmap_mode)
		spec->mmap_mode = request->mmap_mode;
	return 0;
}

static int udb_spec_check(struct device *dev, const struct udb_spec *spec)
{
	if (!spec->size) {
		dev_err(dev, "property size: missing or 0\n");
		return -EINVAL;
	}
	if (spec->size > SIZE_MAX - PAGE_SIZE) {
		dev_err(dev, "no memory: %llu bytes are more than this machine can address\n",
			spec->size);
		return -ENOMEM;
	}
	if (!udb_range_ok(spec->size, spec->sync.offset, spec->sync.size)) {
		dev_err(dev, "properties sync-offset and sync-size: %llu bytes at 0x%llx are outside the buffer of %llu bytes\n",
			spec->sync.size, spec->sync.offset, spec->size);
		return -EINVAL;
	}
	return 0;
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

static int udb_spec_name(struct device *dev, struct udb_spec *spec)
{
	if (!spec->name && spec->minor != UDB_ANY_MINOR) {
		spec->name = devm_kasprintf(dev, GFP_KERNEL, "udmabuf%d", spec->minor);
		if (!spec->name)
			return -ENOMEM;
	}
	if (!spec->name)
		spec->name = dev_name(dev);

	if (!udb_name_ok(spec->name)) {
		dev_err(dev, "device name \"%*pE\" is not allowed: 1...%d printable characters without '/', '!' and \"..\"\n",
			(int)strnlen(spec->name, UDB_NAME_MAX + 1), spec->name,
			UDB_NAME_MAX);
		return -EINVAL;
	}
	return 0;
}

/* Whom the buffer is for. */
static int udb_spec_parent(struct device *dev, struct udb_spec *spec, const char *bind)
{
	int ret;

	if (!bind)
		return 0;
	spec->parent = udb_parent_find_bound(bind);
	if (!IS_ERR(spec->parent))
		return 0;
	ret = PTR_ERR(spec->parent);
	spec->parent = NULL;
	dev_err(dev, "bind: no device %s; bind is [pci/|platform/]<device>\n", bind);
	return ret;
}

void udb_spec_exit(struct udb_spec *spec)
{
	put_device(spec->parent);
}

/* In the probe of dev. On error, too, the caller calls udb_spec_exit(). */
int udb_spec_init(struct device *dev, struct udb_spec *spec)
{
	const struct udb_request *request = udb_made_request(dev) ?: udb_params_request(dev);
	const char *bind = NULL;
	int ret;

	*spec = (struct udb_spec){
		.minor = UDB_ANY_MINOR,
		.mmap_mode = udb_quirk_mmap_mode,
		.sync = { .mode = 1, .direction = U_DMA_BUF_BIDIRECTIONAL },
	};
	if (request) {
		bind = request->bind;
		ret = udb_spec_request(dev, request, spec);
	} else {
		ret = udb_read_properties(dev, spec, &bind);
	}
	if (ret)
		return ret;
	ret = udb_spec_check(dev, spec);
	if (ret)
		return ret;
	ret = udb_spec_name(dev, spec);
	if (ret)
		return ret;
	if (request && request->parent) {
		spec->parent = get_device(request->parent);
		spec->parent_asked = true;
	}
	return udb_spec_parent(dev, spec, bind);
}
