// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * How an address of a program is mapped, by its page table: written to the
 * parameter `at`, which then reads as the memory type and the page's size.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>

static u64 pages_entry;
static unsigned long pages_size;

/* By the bits in which the types differ. */
static const char *pages_type(u64 entry)
{
	pgprot_t cached = vm_get_page_prot(VM_READ | VM_WRITE | VM_SHARED);
	u64 plain = pgprot_val(cached);
	u64 uncached = pgprot_val(pgprot_noncached(cached));
	u64 combined = pgprot_val(pgprot_writecombine(cached));
	u64 mask = (plain ^ uncached) | (plain ^ combined);

	if (!pages_size)
		return "absent";
	if ((entry & mask) == (plain & mask))
		return "cached";
	if ((entry & mask) == (uncached & mask))
		return "uncached";
	if ((entry & mask) == (combined & mask))
		return "write-combined";
	return "unknown";
}

#ifdef CONFIG_RISCV
/* Does not let modules walk; this tells the type of mappings like ours. */
static void pages_walk(struct mm_struct *mm, unsigned long addr)
{
	struct follow_pfnmap_args args = { .vma = vma_lookup(mm, addr), .address = addr };

	pages_size = 0;
	if (!args.vma || follow_pfnmap_start(&args))
		return;
	pages_entry = pgprot_val(args.pgprot);
	pages_size = PAGE_SIZE;
	follow_pfnmap_end(&args);
}
#else
/* The table cannot go: the caller maps, and has one thread. */
static void pages_walk(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;
	pte_t pte;

	pages_size = 0;
	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_bad(*pud))
		return;
	pmd = pmd_offset(pud, addr);
	if (pmd_none(*pmd))
		return;
	if (pmd_bad(*pmd)) {
		/* Not a table: a huge page. */
		pages_entry = pmd_val(*pmd);
		pages_size = PMD_SIZE;
		return;
	}
	pte = *pte_offset_kernel(pmd, addr);
	if (!pte_present(pte))
		return;
	pages_entry = pte_val(pte);
	pages_size = PAGE_SIZE;
}
#endif

static int pages_set(const char *text, const struct kernel_param *param)
{
	unsigned long addr;
	int ret = kstrtoul(text, 0, &addr);

	if (ret)
		return ret;
	mmap_read_lock(current->mm);
	pages_walk(current->mm, addr);
	mmap_read_unlock(current->mm);
	return 0;
}

static int pages_get(char *text, const struct kernel_param *param)
{
	return sysfs_emit(text, "%s %lu\n", pages_type(pages_entry), pages_size);
}

static const struct kernel_param_ops pages_ops = {
	.set = pages_set,
	.get = pages_get,
};
module_param_cb(at, &pages_ops, NULL, 0600);

MODULE_DESCRIPTION("Memory types of a program's pages");
MODULE_LICENSE("Dual MIT/GPL");
