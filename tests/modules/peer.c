// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest tests' other side of u-dma-buf: an importer of its dma-bufs, with a
 * device of its own (udb-peer); a user of its functions, and a driver that has a
 * buffer for its device (udb-driven); and a device that waits for another
 * (udb-waiting). A line of text written to the parameter `run` is done in the
 * writer's context; reading it gives the last results.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/string.h>
#include <linux/u-dma-buf.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define dma_buf_map_attachment_unlocked dma_buf_map_attachment
#define dma_buf_unmap_attachment_unlocked dma_buf_unmap_attachment
#define dma_buf_vmap_unlocked dma_buf_vmap
#define dma_buf_vunmap_unlocked dma_buf_vunmap
#endif

static struct platform_device *peer_pdev;
static struct platform_device *peer_driven;
static struct platform_device *peer_waiting;

static struct dma_buf *peer_dmabuf;
static struct dma_buf_attachment *peer_attach;
static struct sg_table *peer_table;
static enum dma_data_direction peer_dir;
static struct iosys_map peer_map;

static struct device *peer_buffer;	/* of u_dma_buf_device_create() */
static u8 *peer_memory;

/* The results. */
static unsigned int peer_entries;
static unsigned int peer_largest;
static int peer_value;

static int peer_attach_fd(int fd, int dir)
{
	struct scatterlist *sg;
	unsigned int i;
	int ret;

	peer_dmabuf = dma_buf_get(fd);
	if (IS_ERR(peer_dmabuf))
		return PTR_ERR(peer_dmabuf);
	peer_attach = dma_buf_attach(peer_dmabuf, &peer_pdev->dev);
	if (IS_ERR(peer_attach)) {
		ret = PTR_ERR(peer_attach);
		goto err_put;
	}
	peer_dir = dir;
	peer_table = dma_buf_map_attachment_unlocked(peer_attach, peer_dir);
	if (IS_ERR(peer_table)) {
		ret = PTR_ERR(peer_table);
		peer_table = NULL;
		goto err_detach;
	}

	peer_entries = peer_table->orig_nents;
	peer_largest = 0;
	for_each_sgtable_sg(peer_table, sg, i)
		peer_largest = max(peer_largest, sg->length);
	return 0;

err_detach:
	dma_buf_detach(peer_dmabuf, peer_attach);
err_put:
	dma_buf_put(peer_dmabuf);
	return ret;
}

static int peer_detach(void)
{
	if (!peer_table)
		return -ENOENT;
	dma_buf_unmap_attachment_unlocked(peer_attach, peer_table, peer_dir);
	peer_table = NULL;
	dma_buf_detach(peer_dmabuf, peer_attach);
	dma_buf_put(peer_dmabuf);
	return 0;
}

static int peer_vmap(int fd)
{
	int ret;

	peer_dmabuf = dma_buf_get(fd);
	if (IS_ERR(peer_dmabuf))
		return PTR_ERR(peer_dmabuf);
	ret = dma_buf_vmap_unlocked(peer_dmabuf, &peer_map);
	if (ret)
		dma_buf_put(peer_dmabuf);
	return ret;
}

static int peer_vunmap(void)
{
	if (iosys_map_is_null(&peer_map))
		return -ENOENT;
	dma_buf_vunmap_unlocked(peer_dmabuf, &peer_map);
	iosys_map_clear(&peer_map);
	dma_buf_put(peer_dmabuf);
	return 0;
}

/* One byte, by whatever way there is. */
static int peer_poke(size_t offset, u8 value)
{
	if (peer_table)
		return sg_pcopy_from_buffer(peer_table->sgl, peer_table->orig_nents, &value, 1,
					    offset) == 1 ? 0 : -EFAULT;
	if (peer_map.vaddr)
		((u8 *)peer_map.vaddr)[offset] = value;
	else if (peer_memory)
		peer_memory[offset] = value;
	else
		return -ENOENT;
	return 0;
}

static int peer_peek(size_t offset)
{
	u8 value;

	if (peer_table && sg_pcopy_to_buffer(peer_table->sgl, peer_table->orig_nents, &value, 1,
					     offset) != 1)
		return -EFAULT;
	if (!peer_table && peer_map.vaddr)
		value = ((u8 *)peer_map.vaddr)[offset];
	else if (!peer_table && peer_memory)
		value = peer_memory[offset];
	else if (!peer_table)
		return -ENOENT;
	peer_value = value;
	return 0;
}

static int peer_create(const char *name, size_t size, int id, u64 option, struct device *parent)
{
	struct device *dev = u_dma_buf_device_create(name, id, size, option, parent);

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	peer_buffer = dev;
	return 0;
}

static int peer_remove(void)
{
	int ret = u_dma_buf_device_remove(peer_buffer);

	if (!ret) {
		peer_buffer = NULL;
		peer_memory = NULL;
	}
	return ret;
}

static int peer_getmap(void)
{
	dma_addr_t addr;
	void *memory;
	size_t size;
	int ret;

	ret = u_dma_buf_device_getmap(peer_buffer, &size, &memory, &addr);
	if (ret)
		return ret;
	peer_memory = memory;
	peer_value = size;
	return 0;
}

static int peer_search(const char *name, int id)
{
	struct device *dev = u_dma_buf_device_search(*name == '-' ? NULL : name, id);

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	return dev == peer_buffer ? 0 : -EXDEV;
}

static int peer_find(const char *name)
{
	struct device *dev = u_dma_buf_device_search(name, -1);

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	peer_buffer = dev;
	return 0;
}

/* What the driver makes for its device as it probes it, if it has a name. */
static char peer_own[64];
static size_t peer_own_size;

static int peer_probe(struct platform_device *pdev)
{
	int ret;

	if (!*peer_own)
		return 0;
	ret = peer_create(peer_own, peer_own_size, -1, 0, &pdev->dev);
	return ret ?: peer_getmap();
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define peer_remove_result void
#define PEER_REMOVED
#else
#define peer_remove_result int
#define PEER_REMOVED 0
#endif

/* Its device may work in the memory until here. */
static peer_remove_result peer_stop(struct platform_device *pdev)
{
	if (*peer_own && peer_memory) {
		peer_peek(100);
		peer_poke(100, peer_value + 1);
		peer_largest = -peer_remove();
		/* Or it goes by itself. */
		peer_buffer = NULL;
		peer_memory = NULL;
	}
	return PEER_REMOVED;
}

static struct platform_driver peer_driver = {
	.probe = peer_probe,
	.remove = peer_stop,
	.driver = { .name = "udb-driven" },
};

/* Of a device that waits for one without a driver, so that it is never probed. */
static struct platform_driver peer_waiting_driver = {
	.driver = { .name = "udb-waiting" },
};

static int peer_wait(void)
{
	struct platform_device *pdev;
	int ret;

	pdev = platform_device_register_simple("udb-waiting", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	ret = device_link_add(&pdev->dev, &peer_pdev->dev, 0) ? 0 : -ENOMEM;
	if (!ret)
		ret = platform_driver_register(&peer_waiting_driver);
	if (ret)
		platform_device_unregister(pdev);
	else
		peer_waiting = pdev;
	return ret;
}

static int peer_notified(struct notifier_block *block, unsigned long action, void *data)
{
	return NOTIFY_DONE;
}

/* Waits for whoever is being notified. */
static int peer_notify(void)
{
	static struct notifier_block block = { .notifier_call = peer_notified };
	int ret = bus_register_notifier(&platform_bus_type, &block);

	return ret ?: bus_unregister_notifier(&platform_bus_type, &block);
}

static int peer_run(const char *text, const struct kernel_param *param)
{
	unsigned long long a, b;
	char name[64];
	int m, n;

	if (sscanf(text, "attach %d %d", &m, &n) == 2)
		return peer_attach_fd(m, n);
	if (sysfs_streq(text, "detach"))
		return peer_detach();
	if (sscanf(text, "vmap %d", &m) == 1)
		return peer_vmap(m);
	if (sysfs_streq(text, "vunmap"))
		return peer_vunmap();
	if (sscanf(text, "poke %llu %d", &a, &n) == 2)
		return peer_poke(a, n);
	if (sscanf(text, "peek %llu", &a) == 1)
		return peer_peek(a);
	if (sscanf(text, "create %63s %llu %d", name, &a, &n) == 3)
		return peer_create(name, a, n, 32, NULL);
	if (sscanf(text, "option %63s %llu", name, &a) == 2)
		return peer_create(name, 4096, -1, a, NULL);
	if (sscanf(text, "orphan %63s", name) == 1)
		return peer_create(name, 4096, -1, 32, &peer_pdev->dev);
	if (sscanf(text, "own %63s %llu", peer_own, &a) == 2) {
		peer_own_size = a;
		return 0;
	}
	if (sysfs_streq(text, "wait"))
		return peer_wait();
	if (sysfs_streq(text, "notify"))
		return peer_notify();
	if (sscanf(text, "search %63s %d", name, &n) == 2)
		return peer_search(name, n);
	if (sscanf(text, "find %63s", name) == 1)
		return peer_find(name);
	if (sysfs_streq(text, "getmap"))
		return peer_getmap();
	if (sscanf(text, "sync %d %d %llu %llu", &m, &n, &a, &b) == 4)
		return u_dma_buf_device_sync(peer_buffer, m, n, a, b);
	if (sysfs_streq(text, "remove"))
		return peer_remove();
	if (sscanf(text, "bus %63s", name) == 1)
		return u_dma_buf_find_available_bus_type(name, strlen(name)) ? 0 : -ENOENT;
	return -EINVAL;
}

static int peer_results(char *text, const struct kernel_param *param)
{
	return sysfs_emit(text, "%u %u %d\n", peer_entries, peer_largest, peer_value);
}

static const struct kernel_param_ops peer_ops = { .set = peer_run, .get = peer_results };
module_param_cb(run, &peer_ops, NULL, 0600);
MODULE_PARM_DESC(run, "A command; then its results");

static int __init peer_init(void)
{
	struct platform_device_info info = {
		.name = "udb-peer",
		.id = PLATFORM_DEVID_NONE,
		.dma_mask = DMA_BIT_MASK(64),
	};
	int ret;

	peer_pdev = platform_device_register_full(&info);
	if (IS_ERR(peer_pdev))
		return PTR_ERR(peer_pdev);
	dma_set_max_seg_size(&peer_pdev->dev, SZ_2G);
	ret = platform_driver_register(&peer_driver);
	if (ret)
		goto err_pdev;
	info.name = "udb-driven";
	peer_driven = platform_device_register_full(&info);
	if (IS_ERR(peer_driven)) {
		ret = PTR_ERR(peer_driven);
		goto err_driver;
	}
	return 0;

err_driver:
	platform_driver_unregister(&peer_driver);
err_pdev:
	platform_device_unregister(peer_pdev);
	return ret;
}
module_init(peer_init);

static void __exit peer_exit(void)
{
	peer_detach();
	peer_vunmap();
	platform_device_unregister(peer_driven);
	platform_driver_unregister(&peer_driver);
	if (peer_waiting) {
		platform_driver_unregister(&peer_waiting_driver);
		platform_device_unregister(peer_waiting);
	}
	if (peer_buffer)
		peer_remove();
	platform_device_unregister(peer_pdev);
}
module_exit(peer_exit);

MODULE_DESCRIPTION("The other side of u-dma-buf, for its tests");
MODULE_LICENSE("Dual MIT/GPL");
