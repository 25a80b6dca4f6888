//! Who may access a buffer: the first type parameter of [`Buffer`](crate::Buffer).

use std::mem::ManuallyDrop;

use crate::memory::Memory;

/// The CPU owns the buffer: slices and views, and no bus address.
#[derive(Debug)]
pub enum CpuOwned {}

/// The device owns the buffer: a bus address, and no access to the bytes.
///
/// Dropping a device-owned buffer releases nothing: the device may still write
/// there, so the memory stays mapped and claimed for the life of the process.
#[derive(Debug)]
pub enum DeviceOwned {}

/// An owner of a buffer.
pub trait Owner: sealed::Hold {}
impl Owner for CpuOwned {}
impl Owner for DeviceOwned {}

/// Owners under which the CPU may access the bytes: [`CpuOwned`].
#[diagnostic::on_unimplemented(
    message = "the device owns this buffer: the CPU cannot access its bytes",
    label = "needs a `Buffer<CpuOwned>`",
    note = "call `wait` on the transfer that uses the buffer; it gives it back as `Buffer<CpuOwned>`"
)]
pub trait CpuAccess: Owner {}
impl CpuAccess for CpuOwned {}

/// Owners under which the device may access the bytes: [`DeviceOwned`].
#[diagnostic::on_unimplemented(
    message = "the CPU owns this buffer: a device must not be given its address yet",
    label = "needs a `Buffer<DeviceOwned>`",
    note = "call `into_device()` first; it syncs the buffer and gives it back as `Buffer<DeviceOwned>`"
)]
pub trait DeviceAccess: Owner {}
impl DeviceAccess for DeviceOwned {}

pub(crate) mod sealed {
    use super::{CpuOwned, DeviceOwned, ManuallyDrop, Memory};

    /// How a buffer of this owner holds its memory.
    pub trait Hold {
        type Held;
        fn memory(held: &Self::Held) -> &Memory;
    }

    impl Hold for CpuOwned {
        type Held = Box<Memory>;
        fn memory(held: &Self::Held) -> &Memory {
            held
        }
    }

    // Never dropped unless a handover takes it out: the quarantine needs no destructor.
    impl Hold for DeviceOwned {
        type Held = ManuallyDrop<Box<Memory>>;
        fn memory(held: &Self::Held) -> &Memory {
            held
        }
    }
}
