// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The page in which a claimant counts what is at the device, so that a handover
 * costs it no system call. It belongs to the open file.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "compat.h"
#include "udb.h"

static vm_fault_t udb_lent_fault(struct vm_fault *vmf)
{
	struct udb_file *user = vmf->vma->vm_private_data;

	if (vmf->pgoff != PAGE_ALIGN(user->buf->size) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(user->lent_page);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct udb_lent_vm_ops = {
	.fault = udb_lent_fault,
};

int udb_lent_mmap(struct udb_file *user, struct vm_area_struct *vma)
{
	struct udb_buffer *buf = user->buf;
	unsigned long page;
	int ret;

	if (vma_pages(vma) != 1 || !(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	/* Not accounted: before 5.11 that marks a page where its mappings are counted. */
	page = get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;

	/* Entered: removal comes later, and finds the page. */
	ret = udb_enter(buf);
	if (ret)
		goto out;
	spin_lock(&buf->lock);
	if (buf->claimant != user) {
		ret = -EINVAL;
	} else if (!user->lent_page) {
		user->lent_page = (void *)page;
		page = 0;
	}
	spin_unlock(&buf->lock);
	udb_leave(buf);
	if (ret)
		goto out;

	udb_vm_flags_set(vma, VM_IO | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	vma->vm_private_data = user;
	vma->vm_ops = &udb_lent_vm_ops;
out:
	free_page(page);
	return ret;
}

/* The claim ends, nothing is mapped any more: is anything at the device? */
bool udb_lent_parts(struct udb_file *user)
{
	return user->lent_page && READ_ONCE(user->lent_page->parts);
}

/* After the last udb_enter(). */
void udb_lent_gone(struct udb_buffer *buf)
{
	spin_lock(&buf->lock);
	if (buf->claimant && buf->claimant->lent_page)
		WRITE_ONCE(buf->claimant->lent_page->gone, 1);
	spin_unlock(&buf->lock);
}
