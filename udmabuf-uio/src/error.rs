//! What can go wrong, and what would help.

use std::{io, path::PathBuf};

/// Why an operation on a device failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such device.
    #[error("no device `{wanted}` in {}; {cure}", searched.display())]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Where it was looked for.
        searched: PathBuf,
        /// What is there, or what would help.
        cure: String,
    },
    /// This user may not open the device.
    #[error("no permission to open {}: run as root, or give the file to your group by a udev rule", path.display())]
    PermissionDenied {
        /// The file.
        path: PathBuf,
    },
    /// Another handle, in this or another process, drives the device.
    #[error("{device} is in use: another driver has it open")]
    Busy {
        /// The device.
        device: String,
    },
    /// The register block is not where it was said to be.
    #[error("{device} has no register block of {wanted:#x} bytes in {place}: {found}")]
    NoRegisters {
        /// The device.
        device: String,
        /// Size of the block in bytes.
        wanted: usize,
        /// The map or BAR that was tried.
        place: String,
        /// What there is.
        found: String,
    },
    /// The device has no interrupt, or its kernel driver none for it.
    #[error("{device} has no interrupt")]
    NoInterrupt {
        /// The device.
        device: String,
    },
    /// The device, or the kernel driver that it is bound to, does not have it.
    #[error("{device} has no {wanted}: {cure}")]
    Unsupported {
        /// The device.
        device: String,
        /// What was asked for.
        wanted: String,
        /// Why not, and what would help.
        cure: String,
    },
    /// A signal was caught during the wait. Nothing is lost: wait again, or do
    /// what the signal asks for.
    #[error("a signal was caught while waiting for the interrupt of {device}")]
    Interrupted {
        /// The device.
        device: String,
    },
    /// The device is no longer there: unplugged, or taken from its kernel
    /// driver. Whether it still accesses memory is for its driver to know; a
    /// PCI card that is out does not.
    #[error("{device} was removed")]
    Removed {
        /// The device.
        device: String,
    },
    /// The operating system refused.
    #[error("{operation} on {device} failed")]
    Os {
        /// What was tried.
        operation: String,
        /// On what.
        device: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn os(
        device: impl Into<String>,
        operation: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let (device, operation) = (device.into(), operation.into());
        move |source| Self::Os { operation, device, source }
    }

    pub(crate) fn no_reset(device: &str) -> Self {
        Self::Unsupported {
            device: device.into(),
            wanted: "reset that reaches no other device".into(),
            cure: "stop it by its own registers".into(),
        }
    }
}
