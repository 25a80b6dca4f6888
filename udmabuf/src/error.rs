//! What can go wrong, and what would help.

use std::{fmt, io, path::PathBuf};

use crate::DmaAddr;

/// Why an operation on a buffer failed.
///
/// ```
/// use udmabuf::{Buffer, Error};
///
/// match Buffer::open("camera") {
///     Err(Error::NotFound { cure, .. }) => println!("no camera: {cure}"),
///     Err(Error::Busy { .. }) => println!("another program has it"),
///     Err(error) => println!("{error}: {:?}", std::error::Error::source(&error)),
///     Ok(buffer) => println!("{} bytes", buffer.len()),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such buffer.
    #[error("no DMA buffer `{name}`: {} does not exist; {cure}", path.display())]
    NotFound {
        /// The name that was asked for.
        name: Box<str>,
        /// The device file that was tried.
        path: PathBuf,
        /// What would help.
        cure: Box<str>,
    },
    /// This user may not open the device file.
    #[error(
        "no permission to open {}: run as root, or give the file to your group by a udev rule for KERNEL==\"{name}\"",
        path.display()
    )]
    PermissionDenied {
        /// The buffer's name.
        name: Box<str>,
        /// The device file.
        path: PathBuf,
    },
    /// Somebody else has the buffer open, mapped or exported.
    #[error(
        "{name} is in use: another open file or mapping of it exists; `fuser -v /dev/{name}` names the processes"
    )]
    Busy {
        /// The buffer's name.
        name: Box<str>,
    },
    /// Its last user ended while a device owned the buffer.
    #[error(
        "{name} may still be written by a device: its last user ended without taking it back; \
         reset the engine, then open it with `Buffer::recover`"
    )]
    StillDeviceOwned {
        /// The buffer's name.
        name: Box<str>,
    },
    /// The driver or the file cannot do it.
    #[error("`{name}`: {what}")]
    Unsupported {
        /// The buffer's name.
        name: Box<str>,
        /// What is missing, and what would help.
        what: &'static str,
    },
    /// A range that is not inside the buffer.
    #[error("{len} bytes at offset {offset} are not inside a buffer of {size} bytes")]
    OutOfRange {
        /// Start of the range, in bytes.
        offset: u64,
        /// Length of the range, in bytes.
        len: u64,
        /// Length of the buffer, in bytes.
        size: u64,
    },
    /// An offset at which a value of that type cannot be.
    #[error("offset {offset} is not a multiple of {align}, the type's alignment")]
    Misaligned {
        /// The offset, in bytes.
        offset: u64,
        /// The alignment, in bytes.
        align: u64,
    },
    /// A part cannot start inside a cache line.
    #[error(
        "a part cannot start at offset {offset}, inside a cache line of {line} bytes: taking it \
         back would destroy what the CPU wrote beside it; the next good offset is {next}"
    )]
    InsideLine {
        /// The offset, in bytes.
        offset: u64,
        /// The line, in bytes.
        line: u64,
        /// The next offset at which one can start, in bytes.
        next: u64,
    },
    /// Parts that do not lie side by side, in this order, in one buffer.
    #[error("{second} does not start where {first} ends")]
    NotNeighbours {
        /// The part that was to come first.
        first: Box<str>,
        /// The part that was to follow it.
        second: Box<str>,
    },
    /// The buffer has another size than the program expects.
    #[error("{name} has {size} bytes, not {expected}; its size is set where it is made")]
    WrongSize {
        /// The buffer's name.
        name: Box<str>,
        /// What was expected, in bytes.
        expected: u64,
        /// What it has, in bytes.
        size: u64,
    },
    /// Bytes that are no value of the type.
    #[error("the bytes at offset {offset} are no {expected}")]
    Invalid {
        /// The offset, in bytes.
        offset: u64,
        /// The type's name.
        expected: &'static str,
    },
    /// Bus addresses that the engine cannot reach.
    #[error(
        "{len} bytes at bus address {addr} are not within the engine's {bits} bits; allocate the \
         buffer there (the module's `dma_mask_bit` parameter, or `dma-mask` in the device tree)"
    )]
    AddressTooWide {
        /// The first byte's address.
        addr: DmaAddr,
        /// Bytes.
        len: u64,
        /// Bits that the engine drives.
        bits: u32,
    },
    /// The operating system refused.
    #[error("{operation} on {name} failed")]
    Os {
        /// What was tried, with its values.
        operation: Box<str>,
        /// The buffer's name.
        name: Box<str>,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn os(
        name: &str,
        operation: impl Into<Box<str>>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Os { operation: operation.into(), name: name.into(), source: source.into() }
    }
}

/// An operation that was to consume `value` failed, and here it is back,
/// unchanged.
///
/// ```
/// use udmabuf::emulator::Emulator;
///
/// let refused = Emulator::new().buffer(4096).split_at(100).unwrap_err();
/// println!("{}", refused.error); // inside a cache line; the next good offset is 128
/// let (front, back) = refused.value.split_at(128)?; // the same buffer
/// # assert_eq!(front.len() + back.len(), 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Handoff<T, E = Error> {
    /// Why it failed.
    pub error: E,
    /// What was to be consumed.
    pub value: T,
}

impl<T, E: fmt::Debug> fmt::Debug for Handoff<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for Handoff<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T, E: std::error::Error> std::error::Error for Handoff<T, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
