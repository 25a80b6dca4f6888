// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /dev/u-dma-buf-mgr: buffers made and removed at run time, by text.
 *
 *   create <name> <size> [option...]
 *   delete <name>
 *   list
 *
 * A command ends with a newline, a NUL or ';', and may come in pieces or with
 * others. What is unfinished belongs to the open file, like the answer of list,
 * which read() gives. Options: size=, bus=, device=, dma-mask=, quirk-mmap-*.
 */
#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "udb.h"

#define UDB_COMMAND_MAX 1024

struct udb_manager_file {
	struct mutex lock;			/* of all below */
	size_t len;
	char command[UDB_COMMAND_MAX + 1];	/* and a NUL */
	char *answer;
};

/* The value if the word is key=value, or NULL. */
static const char *udb_option(const char *word, const char *key)
{
	size_t len = strlen(key);

	return strncmp(word, key, len) || word[len] != '=' ? NULL : word + len + 1;
}

/* The next word of the command, or NULL. */
static char *udb_next_word(char **text)
{
	char *word;

	do {
		word = strsep(text, " \t\r");
	} while (word && !*word);
	return word;
}

static int udb_parse_size(const char *text, u64 *size)
{
	/* More than 64 bits are bad grammar like any other. */
	return kstrtou64(text, 0, size) ? -EINVAL : 0;
}

/* A create command; the strings are in it. */
struct udb_wanted {
	struct udb_request request;
	const char *bus;	/* NULL: platform */
	const char *device;
};

static int udb_parse_option(const char *word, struct udb_wanted *wanted)
{
	struct udb_request *request = &wanted->request;
	const char *value;

	value = udb_option(word, "size");
	if (value)
		return udb_parse_size(value, &request->size);
	value = udb_option(word, "dma-mask");
	if (value)
		return kstrtouint(value, 0, &request->dma_mask_bits) ||
		       !request->dma_mask_bits ? -EINVAL : 0;
	value = udb_option(word, "bus");
	if (value) {
		wanted->bus = value;
		return strcmp(value, "platform") && strcmp(value, "pci") ? -EINVAL : 0;
	}
	value = udb_option(word, "device");
	if (value) {
		wanted->device = value;
		return *value ? 0 : -EINVAL;
	}
	request->mmap_mode = udb_quirk_mode(word);
	return request->mmap_mode ? 0 : -EINVAL;
}

static int udb_command_create(char *rest)
{
	struct udb_wanted wanted = { .request = { .minor = UDB_ANY_MINOR, .by_manager = true } };
	struct udb_request *request = &wanted.request;
	struct device *dev;
	char *word;
	int ret;

	request->name = udb_next_word(&rest);
	if (!request->name)
		return -EINVAL;
	word = udb_next_word(&rest);
	/* The size comes second, or as an option. */
	if (word && (isdigit(*word) || *word == '+')) {
		ret = udb_parse_size(word, &request->size);
		if (ret)
			return ret;
		word = udb_next_word(&rest);
	}
	for (; word; word = udb_next_word(&rest)) {
		ret = udb_parse_option(word, &wanted);
		if (ret)
			return ret;
	}
	if (!request->size || (wanted.bus && !wanted.device))
		return -EINVAL;
	if (wanted.device) {
		request->bind = kasprintf(GFP_KERNEL, "%s/%s", wanted.bus ?: "platform",
					  wanted.device);
		if (!request->bind)
			return -ENOMEM;
	}
	dev = udb_made_create(request);
	kfree(request->bind);
	return PTR_ERR_OR_ZERO(dev);
}

static int udb_command_delete(char *rest)
{
	const char *name = udb_next_word(&rest);

	if (!name || udb_next_word(&rest))
		return -EINVAL;
	return udb_made_delete(name);
}

static int udb_command_list(struct udb_manager_file *mgr, char *rest)
{
	char *answer;

	if (udb_next_word(&rest))
		return -EINVAL;
	answer = udb_made_list();
	if (!answer)
		return -ENOMEM;
	kvfree(mgr->answer);
	mgr->answer = answer;
	return 0;
}

static int udb_command(struct udb_manager_file *mgr)
{
	char *rest = mgr->command, *word;

	word = udb_next_word(&rest);
	if (!word)
		return 0;
	if (!strcmp(word, "create"))
		return udb_command_create(rest);
	if (!strcmp(word, "delete"))
		return udb_command_delete(rest);
	if (!strcmp(word, "list"))
		return udb_command_list(mgr, rest);
	return -EINVAL;
}

static bool udb_ends_command(char c)
{
	return !c || c == '\n' || c == ';';
}

static int udb_take_char(struct udb_manager_file *mgr, char c)
{
	int ret;

	if (!udb_ends_command(c)) {
		if (mgr->len == UDB_COMMAND_MAX) {
			mgr->len = 0;
			return -ENOSPC;
		}
		mgr->command[mgr->len++] = c;
		return 0;
	}
	mgr->command[mgr->len] = '\0';
	ret = udb_command(mgr);
	mgr->len = 0;
	return ret;
}

/* Takes all of it, or up to the command that fails: the rest is not looked at. */
static ssize_t udb_manager_write(struct file *file, const char __user *text, size_t len,
				 loff_t *pos)
{
	struct udb_manager_file *mgr = file->private_data;
	size_t done = 0;
	int ret;

	ret = mutex_lock_killable(&mgr->lock);
	if (ret)
		return ret;
	/* An answer is read from its start. */
	*pos = 0;
	while (done < len && !ret) {
		char piece[64];
		size_t i, want = min(len - done, sizeof(piece));

		if (copy_from_user(piece, text + done, want)) {
			mgr->len = 0;
			ret = -EFAULT;
			break;
		}
		for (i = 0; i < want && !ret; i++)
			ret = udb_take_char(mgr, piece[i]);
		done += want;
		cond_resched();
		if (fatal_signal_pending(current))
			ret = ret ?: -EINTR;
	}
	mutex_unlock(&mgr->lock);
	return ret ?: len;
}

static ssize_t udb_manager_read(struct file *file, char __user *text, size_t len, loff_t *pos)
{
	struct udb_manager_file *mgr = file->private_data;
	ssize_t ret;

	ret = mutex_lock_killable(&mgr->lock);
	if (ret)
		return ret;
	if (mgr->answer)
		ret = simple_read_from_buffer(text, len, pos, mgr->answer, strlen(mgr->answer));
	mutex_unlock(&mgr->lock);
	return ret;
}

static int udb_manager_open(struct inode *inode, struct file *file)
{
	struct udb_manager_file *mgr = kzalloc(sizeof(*mgr), GFP_KERNEL_ACCOUNT);

	if (!mgr)
		return -ENOMEM;
	mutex_init(&mgr->lock);
	file->private_data = mgr;
	return 0;
}

static int udb_manager_release(struct inode *inode, struct file *file)
{
	struct udb_manager_file *mgr = file->private_data;

	kvfree(mgr->answer);
	kfree(mgr);
	return 0;
}

static const struct file_operations udb_manager_fops = {
	.owner = THIS_MODULE,
	.open = udb_manager_open,
	.release = udb_manager_release,
	.read = udb_manager_read,
	.write = udb_manager_write,
	.llseek = default_llseek,
};

static bool udb_manager_there;

static struct miscdevice udb_manager = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = UDB_NAME "-mgr",
	.fops = &udb_manager_fops,
	.mode = 0600,
};

/*
 * The last of the module's init, which does not fail after that: the manager may
 * be open by then. So it does not fail with it either.
 */
int udb_manager_init(void)
{
	int ret = misc_register(&udb_manager);

	udb_manager_there = !ret;
	return ret;
}

void udb_manager_exit(void)
{
	if (udb_manager_there)
		misc_deregister(&udb_manager);
}
