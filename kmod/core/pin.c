// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Who reaches a buffer's memory by ways that cannot be taken from them: through
 * an exported dma-buf, or as the driver that had it made. As long as there is
 * anybody, the memory stays.
 */
#include <linux/device.h>
#include <linux/jiffies.h>

#include "udb.h"

/* Between udb_enter() and udb_leave(), or in its probe. dev: NULL for the kernel itself. */
void udb_pin(struct udb_buffer *buf, struct udb_pin *pin, struct device *dev)
{
	pin->dev = dev;
	spin_lock(&buf->lock);
	list_add(&pin->link, &buf->pins);
	spin_unlock(&buf->lock);
}

void udb_unpin(struct udb_buffer *buf, struct udb_pin *pin)
{
	spin_lock(&buf->lock);
	list_del(&pin->link);
	if (list_empty(&buf->pins))
		wake_up_all(&buf->unpinned);
	spin_unlock(&buf->lock);
}

static bool udb_is_pinned(struct udb_buffer *buf)
{
	bool pinned;

	/* The lock: udb_unpin() is through with buf, too. */
	spin_lock(&buf->lock);
	pinned = !list_empty(&buf->pins);
	spin_unlock(&buf->lock);
	return pinned;
}

static void udb_name_pin(struct udb_buffer *buf)
{
	struct udb_pin *pin;

	spin_lock(&buf->lock);
	pin = list_first_entry_or_null(&buf->pins, struct udb_pin, link);
	if (pin)
		dev_warn(buf->own, "removal waits for %s\n", pin->dev ?
			 dev_name(pin->dev) : "a kernel mapping, or the driver that had it made");
	spin_unlock(&buf->lock);
}

/* After the last udb_enter(): idle, so that nobody takes it for a hang. */
void udb_wait_unpinned(struct udb_buffer *buf)
{
	while (!wait_event_idle_timeout(buf->unpinned, !udb_is_pinned(buf), 5 * HZ))
		udb_name_pin(buf);
}
