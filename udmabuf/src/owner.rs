//! Who may access a buffer: the first type parameter of [`Buffer`](crate::Buffer).

use std::mem::ManuallyDrop;

use crate::part::Part;

/// The CPU owns the buffer: slices and views, and no bus address.
#[derive(Debug)]
pub enum CpuOwned {}

/// The device owns the buffer: a bus address, and no access to the bytes.
///
/// Dropping a device-owned buffer, or part, releases nothing: the device may
/// still write there, so the memory stays mapped and claimed for the life of
/// the process.
#[derive(Debug)]
pub enum DeviceOwned {}

/// CPU and device use the buffer at the same time, as they do a descriptor ring
/// or a mailbox: a bus address, and access to the bytes by value only.
///
/// It exists only where both see one memory: on a coherent device, or in a
/// mapping without cache. Dropping it releases nothing, as with [`DeviceOwned`].
#[derive(Debug)]
pub enum Shared {}

/// An owner of a buffer.
///
/// ```
/// use udmabuf::{Buffer, CpuOwned, DeviceOwned, Handoff};
///
/// // A function says whose buffer it takes, and whose it returns.
/// fn clear_and_lend(mut buffer: Buffer<CpuOwned>) -> Result<Buffer<DeviceOwned>, Handoff<Buffer>> {
///     buffer.as_mut_slice().fill(0);
///     buffer.into_device()
/// }
/// # let lent = clear_and_lend(udmabuf::emulator::Emulator::new().buffer(64))?;
/// # assert_eq!(lent.len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Owner: sealed::Hold {}
impl Owner for CpuOwned {}
impl Owner for DeviceOwned {}
impl Owner for Shared {}

/// Owners under which the CPU alone may access the bytes: [`CpuOwned`].
#[diagnostic::on_unimplemented(
    message = "the device may access this `{Self}` buffer: the CPU can have no reference to its bytes",
    label = "needs a `Buffer<CpuOwned>`",
    note = "call `wait` on the transfer that uses the buffer; it gives it back as `Buffer<CpuOwned>`"
)]
pub trait CpuAccess: ByValue {}
impl CpuAccess for CpuOwned {}

/// Owners under which the CPU may read and write values: [`CpuOwned`] and
/// [`Shared`].
#[diagnostic::on_unimplemented(
    message = "the device owns this buffer: the CPU cannot access its bytes",
    label = "needs a `Buffer<CpuOwned>` or a `Buffer<Shared>`",
    note = "call `wait` on the transfer that uses the buffer; it gives it back as `Buffer<CpuOwned>`"
)]
pub trait ByValue: Owner {}
impl ByValue for CpuOwned {}
impl ByValue for Shared {}

/// Owners under which the device may access the bytes: [`DeviceOwned`] and
/// [`Shared`].
#[diagnostic::on_unimplemented(
    message = "the CPU owns this buffer: a device must not be given its address yet",
    label = "needs a `Buffer<DeviceOwned>`",
    note = "call `into_device()` first; it syncs the buffer and gives it back as `Buffer<DeviceOwned>`"
)]
pub trait DeviceAccess: Owner {}
impl DeviceAccess for DeviceOwned {}
impl DeviceAccess for Shared {}

pub(crate) mod sealed {
    use super::{CpuOwned, DeviceOwned, ManuallyDrop, Part, Shared};

    /// How a buffer of this owner holds its part of the memory: as a `Part`, or
    /// wrapped without a change of its layout.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is no owner of a buffer",
        label = "expected `CpuOwned`, `DeviceOwned` or `Shared`"
    )]
    pub trait Hold: Send + Sync + 'static {
        type Held;
        fn part(held: &Self::Held) -> &Part;
    }

    impl Hold for CpuOwned {
        type Held = Part;
        fn part(held: &Self::Held) -> &Part {
            held
        }
    }

    // Never dropped unless a handover takes it out: the quarantine needs no destructor.
    impl Hold for DeviceOwned {
        type Held = ManuallyDrop<Part>;
        fn part(held: &Self::Held) -> &Part {
            held
        }
    }

    impl Hold for Shared {
        type Held = ManuallyDrop<Part>;
        fn part(held: &Self::Held) -> &Part {
            held
        }
    }
}
