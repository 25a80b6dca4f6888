// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Buffers that module parameters ask for: each becomes a platform device, and goes
 * the way of a device-tree node from there.
 */
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "compat.h"
#include "udb.h"

#define UDB_PARAMS 8

int udb_info_enable = UDB_INFO_INSTALL;
module_param_named(info_enable, udb_info_enable, int, 0644);
MODULE_PARM_DESC(info_enable, "Log: 1 install and remove, 2 DMA details, 4 build configuration (sum; default 1)");

int udb_dma_mask_bit = 32;
module_param_named(dma_mask_bit, udb_dma_mask_bit, int, 0444);
MODULE_PARM_DESC(dma_mask_bit, "Bits in the DMA mask of buffers not from the device tree (12...64, default 32)");

/* On arm and arm64 the DMA API maps without cache where the device is not coherent. */
int udb_quirk_mmap_mode =
	IS_ENABLED(CONFIG_ARM) || IS_ENABLED(CONFIG_ARM64) ? UDB_MMAP_ON : UDB_MMAP_AUTO;

static int udb_set_quirk_mmap_mode(const char *text, const struct kernel_param *param)
{
	int mode, ret = kstrtoint(text, 0, &mode);

	if (ret)
		return ret;
	if (mode < UDB_MMAP_OFF || mode > UDB_MMAP_PAGE)
		return -EINVAL;
	udb_quirk_mmap_mode = mode;
	return 0;
}

static const struct kernel_param_ops udb_quirk_mmap_mode_ops = {
	.set = udb_set_quirk_mmap_mode,
	.get = param_get_int,
};
module_param_cb(quirk_mmap_mode, &udb_quirk_mmap_mode_ops, &udb_quirk_mmap_mode, 0444);
MODULE_PARM_DESC(quirk_mmap_mode, "How buffers are mapped: 1 off, 2 on, 3 auto, 4 page (default 2 on arm and arm64, else 3)");

static char *udb_bind;
module_param_named(bind, udb_bind, charp, 0444);
MODULE_PARM_DESC(bind, "Device that the buffers made here are for: [pci/|platform/]<device>");

static unsigned long udb_param_size[UDB_PARAMS];
static char *udb_param_bind[UDB_PARAMS];

#define UDB_PARAM(n) \
	module_param_named(udmabuf##n, udb_param_size[n], ulong, 0444); \
	MODULE_PARM_DESC(udmabuf##n, "Size of udmabuf" #n " in bytes (default 0: none)"); \
	module_param_named(udmabuf##n##_bind, udb_param_bind[n], charp, 0444); \
	MODULE_PARM_DESC(udmabuf##n##_bind, "Instead of bind, for udmabuf" #n)

UDB_PARAM(0);
UDB_PARAM(1);
UDB_PARAM(2);
UDB_PARAM(3);
UDB_PARAM(4);
UDB_PARAM(5);
UDB_PARAM(6);
UDB_PARAM(7);

static const char * const udb_param_name[UDB_PARAMS] = {
	"udmabuf0", "udmabuf1", "udmabuf2", "udmabuf3",
	"udmabuf4", "udmabuf5", "udmabuf6", "udmabuf7",
};

static struct platform_device *udb_param_pdev[UDB_PARAMS];

/* How their probes ended, which adding a device does not tell. */
static int udb_param_error[UDB_PARAMS];

static struct udb_request udb_param_request[UDB_PARAMS];

/*
 * NULL if it is none of the devices made here, whose minor is reserved. Platform
 * data would not do: driver_override binds others, which have their own.
 */
const struct udb_request *udb_params_request(struct device *dev)
{
	unsigned int i;

	for (i = 0; i < UDB_PARAMS; i++)
		if (to_platform_device(dev) == udb_param_pdev[i])
			return &udb_param_request[i];
	return NULL;
}

void udb_params_probed(struct device *dev, int error)
{
	if (udb_params_request(dev))
		udb_param_error[to_platform_device(dev)->id] = error;
}

bool udb_params_want_name(const char *name)
{
	unsigned int i;

	for (i = 0; i < UDB_PARAMS; i++)
		if (udb_param_size[i] && !strcmp(name, udb_param_name[i]))
			return true;
	return false;
}

/* Before anybody else can have a minor. */
void udb_params_reserve(void)
{
	unsigned int i;

	for (i = 0; i < UDB_PARAMS; i++)
		if (udb_param_size[i])
			udb_minor_reserve(i);
}

static int udb_param_create(unsigned int i)
{
	struct platform_device *pdev = platform_device_alloc(UDB_NAME, i);
	int ret;

	if (!pdev)
		return -ENOMEM;
	/* Before it is probed: that asks for the request. */
	udb_param_request[i] = (struct udb_request){
		.name = udb_param_name[i],
		.size = udb_param_size[i],
		.minor = i,
		.bind = udb_param_bind[i] ?: udb_bind,
	};
	udb_param_pdev[i] = pdev;
	udb_param_error[i] = -ENXIO;
	ret = platform_device_add(pdev);
	if (ret) {
		udb_param_pdev[i] = NULL;
		platform_device_put(pdev);
		return ret;
	}
	return udb_param_error[i];
}

/* All of them or, with the first one's error, none. */
int udb_params_create(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < UDB_PARAMS; i++) {
		if (!udb_param_size[i])
			continue;
		ret = udb_param_create(i);
		if (ret) {
			udb_params_remove();
			return ret;
		}
	}
	return 0;
}

void udb_params_remove(void)
{
	unsigned int i;

	for (i = 0; i < UDB_PARAMS; i++) {
		struct platform_device *pdev = udb_param_pdev[i];

		platform_device_del(pdev);
		/* Before its address can be another device's. */
		udb_param_pdev[i] = NULL;
		platform_device_put(pdev);
	}
}
