/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * u-dma-buf: what its files share.
 *
 * Lifetime. A struct udb_buffer is referenced by its device (while bound) and
 * by each open file. Its memory and its device are not: both go when the
 * device is unbound, however many files and mappings are left. Whoever touches
 * them does so between udb_enter(), which fails once the buffer is gone, and
 * udb_leave(). That section takes no user memory (a page fault there would
 * enter again, below mmap_lock) and is short: removal waits for it. Syncs do the
 * same with rcu_read_lock() and a look at udb_buffer.gone.
 *
 * Lock order: made.c's mutex, udb_buffer.opening, mmap_lock or a dma-buf's locks,
 * udb_buffer.life, made.c's spinlock, udb_buffer.lock.
 */
#ifndef UDB_H
#define UDB_H

#include <linux/atomic.h>
#include <linux/dma-direction.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "../include/uapi/u-dma-buf.h"

struct device;
struct reserved_mem;
struct seq_file;
struct sg_table;
struct vm_area_struct;

#define UDB_NAME	"u-dma-buf"
#define UDB_VERSION	"0.1.0"
#define UDB_MINORS	256
#define UDB_ANY_MINOR	(-1)
#define UDB_NAME_MAX	63
#define UDB_DMA_MASK_MIN	12
#define UDB_DMA_MASK_MAX	64

/* The parameter and file quirk_mmap_mode. */
enum udb_mmap_mode {
	UDB_MMAP_OFF = 1,	/* as the DMA API maps */
	UDB_MMAP_ON = 2,	/* by O_SYNC and sync_mode */
	UDB_MMAP_AUTO = 3,	/* off for a coherent device, else on */
	UDB_MMAP_PAGE = 4,	/* on, with pages that O_DIRECT can use */
};

/* Bits of the parameter info_enable. */
#define UDB_INFO_INSTALL	1
#define UDB_INFO_DMA		2
#define UDB_INFO_BUILD		4

/* sync_mode: bits 0...1 say how O_SYNC maps, bit 2 that it is always so. */
#define UDB_SYNC_MODE_MAX	7
#define UDB_SYNC_MODE_MASK	3
#define UDB_SYNC_MODE_ALWAYS	4

/* What is synced, and the settings for a sync without a range of its own. */
struct udb_sync_settings {
	u64 offset;
	u64 size;
	unsigned int direction;
	unsigned int mode;
};

/* A buffer as asked for. */
struct udb_spec {
	const char *name;
	u64 size;
	int minor;			/* or UDB_ANY_MINOR */
	unsigned int dma_mask_bits;	/* 0: as the device has it */
	struct device *parent;		/* whom it is for, referenced; or NULL */
	bool parent_asked;		/* its driver did, and so stays */
	unsigned int mmap_mode;		/* UDB_MMAP_* */
	bool zero_between_users;
	bool keep_contents;
	struct udb_sync_settings sync;
};

/* A buffer that a parameter, the manager or another module asks for. */
struct udb_request {
	const char *name;		/* or NULL */
	u64 size;
	int minor;			/* or UDB_ANY_MINOR */
	unsigned int dma_mask_bits;	/* 0: the default */
	unsigned int mmap_mode;		/* UDB_MMAP_*; 0: the default */
	const char *bind;		/* the parent, as in the parameter bind; or NULL */
	struct device *parent;		/* of who asks, a driver in the kernel; or NULL */
	bool by_manager;
};

/* Memory that is contiguous for the CPU; ends where the next one starts. */
struct udb_segment {
	size_t offset;
	unsigned long pfn;
};

/* Where memory is from, and so how it is freed. */
enum udb_memory_kind {
	UDB_MEMORY_SCATTERED,		/* dma_alloc_noncontiguous() */
	UDB_MEMORY_BLOCK,		/* dma_alloc_pages() */
	UDB_MEMORY_PAGES,		/* alloc_pages_exact(): a reference for each page */
	UDB_MEMORY_COHERENT,		/* dma_alloc_attrs() */
	UDB_MEMORY_KEPT,		/* a no-map region that nobody zeroes */
};

struct udb_memory {
	size_t size;			/* whole pages */
	dma_addr_t dma_addr;		/* contiguous for the device */
	enum udb_memory_kind kind;
	struct sg_table *sgt;		/* of scattered memory */
	/*
	 * The kernel's mapping without cache, of memory that may have no other
	 * and no struct page: never mapped cached, never synced. Else NULL.
	 */
	void *uncached;
	struct udb_segment *segments;	/* by offset; the first at 0 */
	unsigned int nr_segments;
	bool synced;			/* if not, a sync has nothing to do */
};

/* What the property memory-region refers to. */
struct udb_region {
	const struct reserved_mem *mem;	/* NULL: there is none */
	bool no_map;
};

/* What was synced, by one CPU: for the CPU, for the device. */
struct udb_counters {
	u64 ranges[2];
	u64 bytes[2];
};

struct udb_buffer {
	struct kref ref;

	struct rw_semaphore life;
	/* Written with life held for writing; then an RCU wait, if it is in use. */
	bool gone;
	/* Between udb_enter and udb_leave, but for memory.dma_addr: */
	struct device *own;		/* our platform device */
	struct device *dev;		/* whom the memory is for: own, or parent */
	struct udb_memory memory;

	struct device *parent;		/* referenced; or NULL */

	/* Constant once the buffer can be seen. */
	struct device *sys_dev;
	struct inode *inode;		/* whose mapping holds all our VMAs */
	size_t size;			/* as asked for */
	int minor;
	unsigned int dma_mask_bits;
	unsigned int mmap_mode;		/* UDB_MMAP_* */
	bool coherent;
	bool zero_between_users;

	struct mutex opening;		/* for both; above life */
	unsigned int files;		/* open ones */
	bool used;			/* by one before */

	struct udb_counters __percpu *counters;

	/* cache.c */
	atomic_t cache_uses;
	int cache_emptied;		/* cache_uses when it was */

	/* See claim.c. */
	bool astray;
	bool orphaned;
	unsigned int range_claims;	/* as gone */

	spinlock_t lock;		/* for all below */
	struct udb_sync_settings sync;
	u64 lent;			/* the sum of udb_file.lent */
	unsigned int users;		/* open files and running sysfs writes */
	struct udb_file *claimant;	/* of the whole */
	struct list_head claims;	/* of ranges: few, and looked through by syncs */
	struct list_head uses;		/* mappings and exports: any number */
	struct list_head pins;
	void *vaddr;			/* in_kernel.c */
	wait_queue_head_t unpinned;
};

/* An open file of a buffer, which holds it. Its mappings and exports hold it. */
struct udb_file {
	struct udb_buffer *buf;
	u32 map_mode;			/* U_DMA_BUF_MAP_* */
	bool populates;			/* mmap.c */
	/* With buf->lock held. */
	unsigned int uses;		/* mappings and exports, and their bytes */
	u64 used_bytes;
	u64 lent;			/* bytes at the device, with a claim */
	bool claims;			/* the whole or a range */
	struct u_dma_buf_lent *lent_page;
};

/* What an open file has claimed, mapped or exported. */
struct udb_use {
	struct list_head link;		/* in udb_buffer.claims or .uses */
	struct udb_file *user;
	u64 offset;
	u64 size;
	bool cached;			/* of a mapping */
	refcount_t vmas;		/* of a mapping, which may be split */
};

/* Who reaches the memory by other ways than ours: removal waits for it. */
struct udb_pin {
	struct list_head link;		/* in udb_buffer.pins */
	struct device *dev;		/* NULL: the kernel itself */
};

/* params.c */
extern int udb_info_enable;
extern int udb_quirk_mmap_mode;
extern int udb_dma_mask_bit;
void udb_params_reserve(void);
int udb_params_create(void);
void udb_params_remove(void);
bool udb_params_want_name(const char *name);
const struct udb_request *udb_params_request(struct device *dev);
void udb_params_probed(struct device *dev, int error);

/* made.c */
struct device *udb_made_create(const struct udb_request *request);
int udb_made_delete(const char *name);
int udb_made_remove(struct device *dev);
void udb_made_remove_all(void);
void udb_made_probed(struct device *dev, int error);
void udb_made_unbound(struct device *dev);
const struct udb_request *udb_made_request(struct device *dev);
char *udb_made_list(void);

/* manager.c */
int udb_manager_init(void);
void udb_manager_exit(void);

/* spec.c */
int udb_spec_init(struct device *dev, struct udb_spec *spec);
void udb_spec_exit(struct udb_spec *spec);

/* properties.c */
int udb_check_number(struct device *dev, const char *property, u32 value, u32 min, u32 max);
unsigned int udb_quirk_mode(const char *name);
int udb_read_properties(struct device *dev, struct udb_spec *spec, const char **bind);

/* buffer.c */
int udb_buffer_create(struct device *dev);
void udb_buffer_remove(struct device *dev);
int udb_buffer_close(struct udb_buffer *buf, bool vouched);
void udb_put(struct udb_buffer *buf);
int udb_enter(struct udb_buffer *buf);
void udb_leave(struct udb_buffer *buf);
int udb_check(struct udb_buffer *buf);
int udb_class_init(void);
void udb_class_exit(void);

/* parent.c */
struct device *udb_parent_find_bound(const char *bind);
int udb_parent_link(struct device *own, struct device *parent);

/* memory.c */
int udb_memory_alloc(struct udb_buffer *buf, const struct udb_spec *spec);
void udb_memory_free(struct udb_buffer *buf);
int udb_memory_set_block(struct udb_memory *mem, phys_addr_t start);

/* pages.c */
int udb_memory_walk(struct udb_buffer *buf, size_t offset, size_t size,
		    void (*visit)(void *start, size_t len));
int udb_memory_zero(struct udb_buffer *buf);
unsigned long udb_memory_pfn(const struct udb_memory *mem, size_t offset);
void *udb_memory_vmap(const struct udb_memory *mem, size_t offset, size_t size);
void udb_memory_vunmap(const struct udb_memory *mem, void *vaddr);
size_t udb_memory_contiguous(const struct udb_memory *mem, size_t offset);
void *udb_memory_map(const struct udb_memory *mem, size_t offset, size_t *len);
void udb_memory_unmap(const struct udb_memory *mem, size_t offset, void *start);

/* region.c */
int udb_region_init(struct udb_buffer *buf, const struct udb_spec *spec,
		    struct udb_region *region);
void udb_region_exit(struct udb_buffer *buf);
int udb_region_alloc(struct udb_buffer *buf, const struct udb_spec *spec,
		     const struct udb_region *region);
void udb_region_free(struct udb_buffer *buf);
bool udb_region_holds(const struct udb_region *region, const struct udb_memory *mem);

/* minors.c */
int udb_minor_reserve(int minor);
void udb_minor_release(int minor);
void udb_minor_publish(int minor, struct udb_buffer *buf);
struct udb_buffer *udb_minor_get(int minor);

/* inode.c */
int udb_inode_init(void);
void udb_inode_exit(void);
struct inode *udb_inode_new(void);

/* file.c */
int udb_chrdev_init(void);
int udb_chrdev_start(void);
void udb_chrdev_exit(void);
dev_t udb_devt(int minor);

/* cache.c */
bool udb_can_map_uncached(struct udb_buffer *buf);
int udb_empty_cache(struct udb_file *user, u64 offset, u64 size);

/* Somebody may have left dirty lines in the CPU's cache. */
static inline void udb_cache_used(struct udb_buffer *buf)
{
	atomic_inc(&buf->cache_uses);
}

/* mmap.c */
int udb_mmap(struct file *file, struct vm_area_struct *vma);
int udb_mmap_use(struct udb_file *user, unsigned int flags, struct vm_area_struct *vma);
int udb_set_map_mode(struct udb_file *user, u64 mode);
unsigned long udb_get_unmapped_area(struct file *file, unsigned long addr, unsigned long len,
				    unsigned long pgoff, unsigned long flags);

/* claim.c */
int udb_user_get(struct udb_buffer *buf);
void udb_user_put(struct udb_buffer *buf, struct udb_file *user);
int udb_claim(struct udb_file *user, u64 flags);
int udb_claim_range(struct udb_file *user, const struct u_dma_buf_claim_range *range);
int udb_find_claims(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size);
int udb_use_begin(struct udb_use *use, struct udb_file *user, u64 offset, u64 size);
void udb_use_end(struct udb_use *use);
void udb_lend(struct udb_buffer *buf, struct udb_file *user, u64 size);
void udb_take_back(struct udb_buffer *buf, struct udb_file *user, u64 size);
u32 udb_owner(struct udb_buffer *buf);

/*
 * Has another file claimed any of it? Between udb_enter() and udb_leave(), or
 * under rcu_read_lock(), on a range inside the buffer. user: NULL for who is no
 * file.
 */
static inline int udb_check_claims(struct udb_buffer *buf, struct udb_file *user, u64 offset,
				   u64 size)
{
	return likely(!READ_ONCE(buf->range_claims)) ? 0 :
	       udb_find_claims(buf, user, offset, size);
}

/* lent.c */
int udb_lent_mmap(struct udb_file *user, struct vm_area_struct *vma);
bool udb_lent_parts(struct udb_file *user);
void udb_lent_gone(struct udb_buffer *buf);

/* pin.c */
void udb_pin(struct udb_buffer *buf, struct udb_pin *pin, struct device *dev);
void udb_unpin(struct udb_buffer *buf, struct udb_pin *pin);
void udb_wait_unpinned(struct udb_buffer *buf);

/* sync.c */
bool udb_range_ok(u64 buffer_size, u64 offset, u64 size);
struct udb_sync_settings udb_settings(struct udb_buffer *buf);
int udb_settings_enter(struct udb_buffer *buf, struct udb_file *user);
int udb_sync_memory(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size,
		    enum dma_data_direction dir, bool for_device);
int udb_sync_reader(struct udb_buffer *buf, struct udb_file *user, u64 offset, u64 size);
int udb_sync_range(struct udb_buffer *buf, struct udb_file *user,
		   const struct u_dma_buf_sync_range *range);
int udb_sync_batch(struct udb_file *user, const struct u_dma_buf_sync_batch *batch);
int udb_sync_value(struct udb_buffer *buf, struct udb_file *user, u64 value,
		   u32 command);
int udb_set_sync(struct udb_file *user, const struct u_dma_buf_sync_args *args);
void udb_get_sync(struct udb_buffer *buf, struct u_dma_buf_sync_args *args);

/* counters.c */
struct udb_counters __percpu *udb_counters_new(void);
extern const struct attribute_group udb_counter_group;

static inline void udb_count_syncs(struct udb_buffer *buf, bool for_device, u64 ranges,
				   u64 bytes)
{
	struct udb_counters *counters = get_cpu_ptr(buf->counters);

	counters->ranges[for_device] += ranges;
	counters->bytes[for_device] += bytes;
	put_cpu_ptr(buf->counters);
}

/* export.c */
#if IS_ENABLED(CONFIG_DMA_SHARED_BUFFER)
int udb_export(struct file *file, void __user *arg);
#else
static inline int udb_export(struct file *file, void __user *arg)
{
	return -ENXIO;
}
#endif

/* fdinfo.c */
void udb_show_fdinfo(struct seq_file *seq, struct file *file);

/* ioctl.c */
u64 udb_capabilities(const struct udb_buffer *buf);
long udb_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* sysfs.c */
extern const struct attribute_group *udb_groups[];

#endif /* UDB_H */
