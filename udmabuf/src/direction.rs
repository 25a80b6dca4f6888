//! Which way data moves: the second type parameter of [`Buffer`](crate::Buffer).

pub(crate) use udmabuf_sys::abi::Direction as Kind;

/// The CPU writes, the device reads.
#[derive(Debug)]
pub enum ToDevice {}

/// The device writes, the CPU reads.
#[derive(Debug)]
pub enum FromDevice {}

/// Both write and read; costs a cache operation each way.
#[derive(Debug)]
pub enum Bidirectional {}

/// A direction of transfer.
///
/// ```
/// use udmabuf::{Bidirectional, FromDevice, ToDevice, emulator::Emulator};
///
/// let buffer = Emulator::new().buffer(64); // Bidirectional
/// let mut source = buffer.for_direction::<ToDevice>();
/// source.as_mut_slice().fill(1);
/// let destination = source.for_direction::<FromDevice>(); // the CPU reads it only
/// assert_eq!(destination.as_slice(), [1; 64]);
/// let both = destination.for_direction::<Bidirectional>();
/// # drop(both);
/// ```
pub trait Direction: sealed::Direction {}
impl Direction for ToDevice {}
impl Direction for FromDevice {}
impl Direction for Bidirectional {}

/// Directions in which the CPU may write: [`ToDevice`] and [`Bidirectional`].
#[diagnostic::on_unimplemented(
    message = "the CPU cannot write a `{Self}` buffer: what it writes would not reach the device, or be lost",
    label = "needs a `ToDevice` or `Bidirectional` buffer",
    note = "choose the direction while the CPU owns the buffer, with `for_direction::<ToDevice>()` or `for_direction::<Bidirectional>()`"
)]
pub trait CpuWrites: Direction {}
impl CpuWrites for ToDevice {}
impl CpuWrites for Bidirectional {}

pub(crate) mod sealed {
    use super::{Bidirectional, FromDevice, Kind, ToDevice};

    #[diagnostic::on_unimplemented(
        message = "`{Self}` is no direction of a transfer",
        label = "expected `ToDevice`, `FromDevice` or `Bidirectional`"
    )]
    pub trait Direction: Send + Sync + 'static {
        const KIND: Kind;
    }

    impl Direction for ToDevice {
        const KIND: Kind = Kind::ToDevice;
    }
    impl Direction for FromDevice {
        const KIND: Kind = Kind::FromDevice;
    }
    impl Direction for Bidirectional {
        const KIND: Kind = Kind::Bidirectional;
    }
}
