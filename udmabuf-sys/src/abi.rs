//! Structures and command numbers, as in `kmod/include/uapi/u-dma-buf.h`.

use rustix::ioctl::{Opcode, opcode};

/// The ioctl type byte of every command.
pub const TYPE: u8 = b'U';

/// `GET_DEV_INFO`: what the buffer is.
pub const GET_DEV_INFO: Opcode = opcode::read::<DevInfo>(TYPE, 7);
/// `SET_SYNC`: stores a range and direction, then syncs it.
pub const SET_SYNC: Opcode = opcode::write::<SetSync>(TYPE, 9);
/// `CLAIM`: makes this open file the only user of the buffer.
pub const CLAIM: Opcode = opcode::write::<u64>(TYPE, 0x40);

/// [`CLAIM`]: the caller vouches that no device accesses the buffer any more.
pub const CLAIM_ADOPT: u64 = 1;

/// [`DevInfo::flags`]: the device's DMA mask, in bits.
pub const DEV_INFO_DMA_MASK: u64 = 0xff;
/// [`DevInfo::flags`]: hardware keeps the CPU's caches coherent with the device.
pub const DEV_INFO_COHERENT: u64 = 1 << 9;

/// [`SetSync::flags`]: hand the range to the CPU.
pub const SYNC_FOR_CPU: u64 = 1;
/// [`SetSync::flags`]: hand the range to the device.
pub const SYNC_FOR_DEVICE: u64 = 3;
/// [`SetSync::flags`]: where the direction's two bits start.
pub const SYNC_DIRECTION_SHIFT: u32 = 2;

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

/// The argument of [`SET_SYNC`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetSync {
    /// A command, `SYNC_FOR_*`, and a direction.
    pub flags: u64,
    /// Bytes; 0 leaves the stored size.
    pub size: u64,
    /// Bytes from the start of the buffer.
    pub offset: u64,
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
    assert!(GET_DEV_INFO == 0x8018_5507);
    assert!(SET_SYNC == 0x4018_5509);
    assert!(CLAIM == 0x4008_5540);
};
