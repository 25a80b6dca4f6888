// SPDX-License-Identifier: GPL-2.0 OR MIT
/* /sys/class/u-dma-buf/<name>/: one line or number a file. */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/kernel.h>
#include <linux/sysfs.h>

#include "udb.h"

static ssize_t driver_version_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%s\n", UDB_VERSION);
}
static DEVICE_ATTR_RO(driver_version);

static ssize_t ioctl_version_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%d\n", U_DMA_BUF_IOCTL_VERSION);
}
static DEVICE_ATTR_RO(ioctl_version);

static ssize_t capabilities_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "0x%llx\n", udb_capabilities(dev_get_drvdata(dev)));
}
static DEVICE_ATTR_RO(capabilities);

static ssize_t cache_alignment_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%d\n", dma_get_cache_alignment());
}
static DEVICE_ATTR_RO(cache_alignment);

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);

	return sysfs_emit(text, "%zu\n", buf->size);
}
static DEVICE_ATTR_RO(size);

static ssize_t phys_addr_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);

	return sysfs_emit(text, "%pad\n", &buf->memory.dma_addr);
}
static DEVICE_ATTR_RO(phys_addr);

static ssize_t dma_coherent_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);

	return sysfs_emit(text, "%d\n", buf->coherent);
}
static DEVICE_ATTR_RO(dma_coherent);

static ssize_t quirk_mmap_mode_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);

	return sysfs_emit(text, "%u\n", buf->mmap_mode);
}
static DEVICE_ATTR_RO(quirk_mmap_mode);

static ssize_t sync_owner_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);

	return sysfs_emit(text, "%u\n", udb_owner(buf));
}
static DEVICE_ATTR_RO(sync_owner);

/* Parses a number up to max; then the caller is a user of the buffer. */
static int udb_store_begin(struct udb_buffer *buf, const char *text, u64 max, u64 *value)
{
	int ret = kstrtou64(text, 0, value);

	if (ret)
		return ret;
	if (*value > max)
		return -EINVAL;
	return udb_user_get(buf);
}

/* A setting that is read and written. */
#define UDB_SETTING(field, format, max)						\
static ssize_t sync_##field##_show(struct device *dev,				\
				   struct device_attribute *attr, char *text)	\
{										\
	return sysfs_emit(text, format "\n",					\
			  udb_settings(dev_get_drvdata(dev)).field);		\
}										\
										\
static ssize_t sync_##field##_store(struct device *dev,				\
				    struct device_attribute *attr,		\
				    const char *text, size_t len)		\
{										\
	struct udb_buffer *buf = dev_get_drvdata(dev);				\
	u64 value;								\
	int ret = udb_store_begin(buf, text, max, &value);			\
										\
	if (ret)								\
		return ret;							\
	ret = udb_settings_enter(buf, NULL);					\
	if (!ret) {								\
		spin_lock(&buf->lock);						\
		buf->sync.field = value;					\
		spin_unlock(&buf->lock);					\
		udb_leave(buf);							\
	}									\
	udb_user_put(buf, NULL);						\
	return ret ?: len;							\
}										\
static DEVICE_ATTR(sync_##field, 0664, sync_##field##_show, sync_##field##_store)

UDB_SETTING(mode, "%u", UDB_SYNC_MODE_MAX);
UDB_SETTING(offset, "0x%llx", U64_MAX);
UDB_SETTING(size, "%llu", U64_MAX);
UDB_SETTING(direction, "%u", U_DMA_BUF_FROM_DEVICE);

static ssize_t udb_store_sync(struct device *dev, const char *text, size_t len, u32 command)
{
	struct udb_buffer *buf = dev_get_drvdata(dev);
	u64 value;
	int ret = udb_store_begin(buf, text, U64_MAX, &value);

	if (ret)
		return ret;
	ret = udb_sync_value(buf, NULL, value, command);
	udb_user_put(buf, NULL);
	return ret ?: len;
}

/* Nothing is ever pending: a sync is over when the write returns. */
static ssize_t udb_pending_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "0\n");
}

static ssize_t sync_for_cpu_store(struct device *dev, struct device_attribute *attr,
				  const char *text, size_t len)
{
	return udb_store_sync(dev, text, len, U_DMA_BUF_SYNC_FOR_CPU);
}
static DEVICE_ATTR(sync_for_cpu, 0664, udb_pending_show, sync_for_cpu_store);

static ssize_t sync_for_device_store(struct device *dev, struct device_attribute *attr,
				     const char *text, size_t len)
{
	return udb_store_sync(dev, text, len, U_DMA_BUF_SYNC_FOR_DEVICE);
}
static DEVICE_ATTR(sync_for_device, 0664, udb_pending_show, sync_for_device_store);

static struct attribute *udb_attrs[] = {
	&dev_attr_driver_version.attr,
	&dev_attr_ioctl_version.attr,
	&dev_attr_capabilities.attr,
	&dev_attr_cache_alignment.attr,
	&dev_attr_size.attr,
	&dev_attr_phys_addr.attr,
	&dev_attr_dma_coherent.attr,
	&dev_attr_quirk_mmap_mode.attr,
	&dev_attr_sync_mode.attr,
	&dev_attr_sync_offset.attr,
	&dev_attr_sync_size.attr,
	&dev_attr_sync_direction.attr,
	&dev_attr_sync_owner.attr,
	&dev_attr_sync_for_cpu.attr,
	&dev_attr_sync_for_device.attr,
	NULL
};

static const struct attribute_group udb_group = {
	.attrs = udb_attrs,
};

const struct attribute_group *udb_groups[] = {
	&udb_group,
	&udb_counter_group,
	NULL
};
