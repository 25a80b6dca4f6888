// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * u-dma-buf: DMA buffers for drivers in user space.
 *
 * Here: the platform driver, which makes a buffer of each device it is bound
 * to (from the device tree or from module parameters), and the module.
 */
#include <linux/device.h>
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "compat.h"
#include "udb.h"

static int udb_probe(struct platform_device *pdev)
{
	int ret = udb_buffer_create(&pdev->dev);

	udb_params_probed(&pdev->dev, ret);
	udb_made_probed(&pdev->dev, ret);
	return ret;
}

static udb_remove_result udb_remove(struct platform_device *pdev)
{
	udb_buffer_remove(&pdev->dev);
	return UDB_REMOVED;
}

static const struct of_device_id udb_of_match[] = {
	{ .compatible = "ikwzm,u-dma-buf" },
	{ }
};
MODULE_DEVICE_TABLE(of, udb_of_match);

static struct platform_driver udb_driver = {
	.probe = udb_probe,
	.remove = udb_remove,
	.driver = {
		.name = UDB_NAME,
		.of_match_table = udb_of_match,
		/* The parameters' devices have to be ready when init ends. */
		.probe_type = PROBE_FORCE_SYNCHRONOUS,
	},
};

static int __init udb_init(void)
{
	int ret;

	ret = udb_class_init();
	if (ret)
		return ret;
	ret = udb_inode_init();
	if (ret)
		goto err_class;
	ret = udb_chrdev_init();
	if (ret)
		goto err_inode;

	/* Device-tree nodes are probed first, but parameters win a clash. */
	udb_params_reserve();
	ret = platform_driver_register(&udb_driver);
	if (ret)
		goto err_chrdev;
	ret = udb_params_create();
	if (ret)
		goto err_driver;
	/* Last; see there. */
	ret = udb_chrdev_start();
	if (ret)
		goto err_params;
	ret = udb_manager_init();
	if (ret)
		pr_warn(UDB_NAME ": no manager: error %d\n", ret);
	return 0;

err_params:
	udb_params_remove();
err_driver:
	platform_driver_unregister(&udb_driver);
err_chrdev:
	udb_chrdev_exit();
err_inode:
	udb_inode_exit();
err_class:
	udb_class_exit();
	return ret;
}
module_init(udb_init);

static void __exit udb_exit(void)
{
	udb_manager_exit();
	udb_made_remove_all();
	udb_params_remove();
	platform_driver_unregister(&udb_driver);
	udb_chrdev_exit();
	udb_inode_exit();
	udb_class_exit();
}
module_exit(udb_exit);

MODULE_DESCRIPTION("DMA buffers for drivers in user space");
MODULE_AUTHOR("The u-dma-buf SDK authors");
MODULE_VERSION(UDB_VERSION);
MODULE_LICENSE("Dual MIT/GPL");
