//! Structures and command numbers, as in `kmod/include/uapi/u-dma-buf.h`.

use std::sync::atomic::AtomicU32;

use rustix::ioctl::{Opcode, opcode};

/// The ioctl type byte of every command.
pub const TYPE: u8 = b'U';

/// `GET_DRV_INFO`: what the driver is.
pub const GET_DRV_INFO: Opcode = opcode::read::<DrvInfo>(TYPE, 1);
/// `GET_SIZE`: the size in bytes.
pub const GET_SIZE: Opcode = opcode::read::<u64>(TYPE, 2);
/// `GET_DMA_ADDR`: where the device finds the first byte.
pub const GET_DMA_ADDR: Opcode = opcode::read::<u64>(TYPE, 3);
/// `GET_SYNC_OWNER`: who has the buffer, `OWNER_*`.
pub const GET_SYNC_OWNER: Opcode = opcode::read::<u32>(TYPE, 4);
/// `SET_SYNC_FOR_CPU`: takes a sync value.
pub const SET_SYNC_FOR_CPU: Opcode = opcode::write::<u64>(TYPE, 5);
/// `SET_SYNC_FOR_DEVICE`: takes a sync value.
pub const SET_SYNC_FOR_DEVICE: Opcode = opcode::write::<u64>(TYPE, 6);
/// `GET_DEV_INFO`: what the buffer is.
pub const GET_DEV_INFO: Opcode = opcode::read::<DevInfo>(TYPE, 7);
/// `GET_SYNC`: the stored settings and the owner.
pub const GET_SYNC: Opcode = opcode::read::<SyncArgs>(TYPE, 8);
/// `SET_SYNC`: stores a range and direction, then syncs it.
pub const SET_SYNC: Opcode = opcode::write::<SyncArgs>(TYPE, 9);
/// `EXPORT`: a dma-buf of a range.
pub const EXPORT: Opcode = opcode::read_write::<ExportArgs>(TYPE, 10);
/// `CLAIM`: makes this open file the only user of the buffer.
pub const CLAIM: Opcode = opcode::write::<u64>(TYPE, 0x40);
/// `GET_CAPS`: what the driver offers for this buffer.
pub const GET_CAPS: Opcode = opcode::read::<Caps>(TYPE, 0x41);
/// `SYNC_BATCH`: many ranges, in order.
pub const SYNC_BATCH: Opcode = opcode::write::<SyncBatch>(TYPE, 0x42);
/// `CLAIM_RANGE`: makes this open file the only user of a range.
pub const CLAIM_RANGE: Opcode = opcode::write::<ClaimRange>(TYPE, 0x43);
/// `SET_MAP_MODE`: how mappings made from now on reach memory.
pub const SET_MAP_MODE: Opcode = opcode::write::<u64>(TYPE, 0x44);
/// `GET_PARENT`: the device that the buffer was made for.
pub const GET_PARENT: Opcode = opcode::read::<Parent>(TYPE, 0x45);

/// [`CLAIM`] and [`CLAIM_RANGE`]: the caller vouches that no device accesses
/// the memory any more.
pub const CLAIM_ADOPT: u64 = 1;

/// [`DrvInfo::flags`]: the version of the ioctls.
pub const DRV_IOCTL_VERSION: u64 = 0xff;
/// [`DrvInfo::flags`]: functions for other modules.
pub const DRV_IN_KERNEL: u64 = 1 << 8;
/// [`DrvInfo::flags`]: DMA set-up from the device tree.
pub const DRV_OF_DMA_CONFIG: u64 = 1 << 12;
/// [`DrvInfo::flags`]: `memory-region`.
pub const DRV_OF_RESERVED_MEM: u64 = 1 << 13;
/// [`DrvInfo::flags`]: `quirk_mmap_mode`.
pub const DRV_QUIRK_MMAP: u64 = 1 << 16;
/// [`DrvInfo::flags`]: its mode *page*.
pub const DRV_QUIRK_MMAP_PAGE: u64 = 1 << 17;

/// [`DevInfo::flags`]: the device's DMA mask, in bits.
pub const DEV_INFO_DMA_MASK: u64 = 0xff;
/// [`DevInfo::flags`]: hardware keeps the CPU's caches coherent with the device.
pub const DEV_INFO_COHERENT: u64 = 1 << 9;
/// [`DevInfo::flags`]: where the three bits of `quirk_mmap_mode` start.
pub const DEV_INFO_MMAP_MODE_SHIFT: u32 = 10;

/// [`SyncArgs::flags`] and [`SyncRange::command`]: hand the range to the CPU.
pub const SYNC_FOR_CPU: u64 = 1;
/// [`SyncArgs::flags`] and [`SyncRange::command`]: hand the range to the device.
pub const SYNC_FOR_DEVICE: u64 = 3;
/// [`SyncArgs::flags`]: where the direction's two bits start.
pub const SYNC_DIRECTION_SHIFT: u32 = 2;
/// [`SyncArgs::flags`]: where the mode's eight bits start; 0 leaves the mode.
pub const SYNC_MODE_SHIFT: u32 = 8;
/// [`SyncArgs::flags`], only [`GET_SYNC`]: the device has the buffer.
pub const SYNC_OWNER: u64 = 1 << 16;

/// [`GET_SYNC_OWNER`]: the CPU has the buffer.
pub const OWNER_CPU: u32 = 0;
/// [`GET_SYNC_OWNER`]: the device has the buffer.
pub const OWNER_DEVICE: u32 = 1;

/// [`SyncBatch::count`]: how many at most.
pub const SYNC_BATCH_MAX: u32 = 4096;
/// Claimed ranges of one buffer, at most.
pub const CLAIM_RANGES_MAX: u64 = 256;

/// [`SET_MAP_MODE`]: as `O_SYNC` and `sync_mode` say.
pub const MAP_BY_FLAGS: u64 = 0;
/// [`SET_MAP_MODE`]: through the CPU's cache.
pub const MAP_CACHED: u64 = 1;
/// [`SET_MAP_MODE`]: without cache, and in order.
pub const MAP_UNCACHED: u64 = 2;
/// [`SET_MAP_MODE`]: without cache; writes may be combined.
pub const MAP_WRITE_COMBINED: u64 = 3;

/// [`Caps::flags`]: [`CLAIM`].
pub const CAP_CLAIM: u64 = 1 << 0;
/// [`Caps::flags`]: [`CLAIM_RANGE`].
pub const CAP_CLAIM_RANGE: u64 = 1 << 1;
/// [`Caps::flags`]: [`SYNC_BATCH`].
pub const CAP_SYNC_BATCH: u64 = 1 << 2;
/// [`Caps::flags`]: the page of [`Lent`].
pub const CAP_LENT: u64 = 1 << 3;
/// [`Caps::flags`]: [`SET_MAP_MODE`].
pub const CAP_MAP_MODE: u64 = 1 << 4;
/// [`Caps::flags`]: [`EXPORT`].
pub const CAP_EXPORT: u64 = 1 << 5;
/// [`Caps::flags`]: cache maintenance by the program itself does what a sync does.
pub const CAP_USER_SYNC: u64 = 1 << 6;
/// [`Caps::flags`]: a claimant's advice is a sync, see
/// [`advise_for_device`](crate::ioctl::advise_for_device).
pub const CAP_ADVICE: u64 = 1 << 7;

/// The argument of [`GET_DRV_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DrvInfo {
    /// `DRV_*`.
    pub flags: u64,
    /// The driver's version, as text, NUL-terminated.
    pub version: [u8; 16],
}

/// The argument of [`GET_DEV_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DevInfo {
    /// `DEV_INFO_*`.
    pub flags: u64,
    /// Bytes asked for; the mapping may be longer, up to a whole page.
    pub size: u64,
    /// Where the device sees the first byte.
    pub dma_addr: u64,
}

impl DevInfo {
    /// Whether hardware keeps the caches coherent, so that a sync moves nothing.
    #[must_use]
    pub const fn is_coherent(&self) -> bool {
        self.flags & DEV_INFO_COHERENT != 0
    }
}

/// The argument of [`GET_SYNC`] and [`SET_SYNC`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncArgs {
    /// A command, `SYNC_FOR_*`, a direction and a mode.
    pub flags: u64,
    /// Bytes; 0 leaves the stored size.
    pub size: u64,
    /// Bytes from the start of the buffer.
    pub offset: u64,
}

/// The argument of [`EXPORT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportArgs {
    /// Of the new descriptor: `O_CLOEXEC`, `O_SYNC` and the access mode.
    pub flags: u64,
    /// Bytes, whole pages.
    pub size: u64,
    /// Bytes from the start of the buffer, whole pages.
    pub offset: u64,
    /// Answer: where the device sees the first byte.
    pub dma_addr: u64,
    /// Answer: the dma-buf.
    pub fd: i32,
}

/// The argument of [`CLAIM_RANGE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ClaimRange {
    /// Bytes from the start of the buffer, whole pages.
    pub offset: u64,
    /// Bytes, whole pages.
    pub size: u64,
    /// [`CLAIM_ADOPT`] or 0.
    pub flags: u64,
}

/// One range of a [`SyncBatch`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncRange {
    /// Bytes from the start of the buffer.
    pub offset: u64,
    /// Bytes; 0 does nothing.
    pub size: u64,
    /// `SYNC_FOR_*`.
    pub command: u32,
    /// A [`Direction`].
    pub direction: u32,
}

/// The argument of [`SYNC_BATCH`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncBatch {
    /// The address of an array of [`SyncRange`].
    pub ranges: u64,
    /// Its length, at most [`SYNC_BATCH_MAX`].
    pub count: u32,
    /// 0.
    pub flags: u32,
}

/// The argument of [`GET_CAPS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps {
    /// `CAP_*`.
    pub flags: u64,
    /// Parts that CPU and device use at the same time must begin and end at
    /// multiples of this many bytes.
    pub cache_alignment: u64,
}

/// The argument of [`GET_PARENT`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Parent {
    /// Bus and device, as in `pci/0000:00:02.0`, NUL-terminated; empty for none.
    pub name: [u8; 128],
}

impl Parent {
    /// None, as a driver leaves it for a buffer that was made for no other device.
    pub const NONE: Self = Self { name: [0; 128] };

    /// The name, if there is one.
    ///
    /// ```
    /// use udmabuf_sys::abi::Parent;
    ///
    /// let mut parent = Parent::NONE;
    /// assert_eq!(parent.name(), None);
    /// parent.name[..16].copy_from_slice(b"pci/0000:00:02.0");
    /// assert_eq!(parent.name(), Some(&b"pci/0000:00:02.0"[..]));
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty())
    }
}

/// The page behind the buffer's last one, by which a claimant says what is at the device.
#[repr(C)]
#[derive(Debug)]
pub struct Lent {
    /// How many parts are at the device; the claimant counts.
    pub parts: AtomicU32,
    /// Not 0 once the buffer was removed; the module writes it.
    pub gone: AtomicU32,
}

/// Which way data moves, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Direction {
    /// Both ways.
    Bidirectional = 0,
    /// The device reads.
    ToDevice = 1,
    /// The device writes.
    FromDevice = 2,
}

// The opcodes of the 64-bit ABI, as existing programs have them compiled in.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "arm"
))]
const _: () = {
    assert!(GET_DRV_INFO == 0x8018_5501);
    assert!(GET_SIZE == 0x8008_5502);
    assert!(GET_DMA_ADDR == 0x8008_5503);
    assert!(GET_SYNC_OWNER == 0x8004_5504);
    assert!(SET_SYNC_FOR_CPU == 0x4008_5505);
    assert!(SET_SYNC_FOR_DEVICE == 0x4008_5506);
    assert!(GET_DEV_INFO == 0x8018_5507);
    assert!(GET_SYNC == 0x8018_5508);
    assert!(SET_SYNC == 0x4018_5509);
    assert!(EXPORT == 0xc028_550a);
    assert!(CLAIM == 0x4008_5540);
};
