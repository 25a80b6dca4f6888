// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Minor numbers: which are taken, and the buffer that is behind each. */
#include <linux/bitmap.h>
#include <linux/mutex.h>

#include "udb.h"

static DEFINE_MUTEX(udb_minors_lock);
static DECLARE_BITMAP(udb_minors_taken, UDB_MINORS);
static struct udb_buffer *udb_minors[UDB_MINORS];

/* A number, or -EBUSY. */
int udb_minor_reserve(int minor)
{
	mutex_lock(&udb_minors_lock);
	if (minor == UDB_ANY_MINOR)
		minor = find_first_zero_bit(udb_minors_taken, UDB_MINORS);
	if (minor >= UDB_MINORS || test_and_set_bit(minor, udb_minors_taken))
		minor = -EBUSY;
	mutex_unlock(&udb_minors_lock);
	return minor;
}

void udb_minor_release(int minor)
{
	clear_bit(minor, udb_minors_taken);
}

/* From now on open() finds buf, or with NULL nothing. */
void udb_minor_publish(int minor, struct udb_buffer *buf)
{
	mutex_lock(&udb_minors_lock);
	udb_minors[minor] = buf;
	mutex_unlock(&udb_minors_lock);
}

/* With a reference of its own, or NULL. */
struct udb_buffer *udb_minor_get(int minor)
{
	struct udb_buffer *buf;

	mutex_lock(&udb_minors_lock);
	buf = udb_minors[minor];
	if (buf)
		kref_get(&buf->ref);
	mutex_unlock(&udb_minors_lock);
	return buf;
}
