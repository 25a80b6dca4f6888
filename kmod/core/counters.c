// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What was synced, counted on each CPU for itself:
 * /sys/class/u-dma-buf/<name>/counters/.
 */
#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/percpu.h>
#include <linux/sysfs.h>

#include "udb.h"

struct udb_counters __percpu *udb_counters_new(void)
{
	return alloc_percpu(struct udb_counters);
}

#define UDB_COUNTER(name, field, for_device)						\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *text) \
{											\
	struct udb_buffer *buf = dev_get_drvdata(dev);					\
	u64 sum = 0;									\
	int cpu;									\
											\
	for_each_possible_cpu(cpu)							\
		sum += per_cpu_ptr(buf->counters, cpu)->field[for_device];		\
	return sysfs_emit(text, "%llu\n", sum);						\
}											\
static DEVICE_ATTR_RO(name)

UDB_COUNTER(ranges_for_cpu, ranges, 0);
UDB_COUNTER(bytes_for_cpu, bytes, 0);
UDB_COUNTER(ranges_for_device, ranges, 1);
UDB_COUNTER(bytes_for_device, bytes, 1);

static struct attribute *udb_counter_attrs[] = {
	&dev_attr_ranges_for_cpu.attr,
	&dev_attr_bytes_for_cpu.attr,
	&dev_attr_ranges_for_device.attr,
	&dev_attr_bytes_for_device.attr,
	NULL
};

const struct attribute_group udb_counter_group = {
	.name = "counters",
	.attrs = udb_counter_attrs,
};
