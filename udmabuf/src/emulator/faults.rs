//! Syncs that fail because a test wants to see what its driver does then.

/// Which sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Device,
    Cpu,
}

/// Syncs that are to fail, for [`Emulator::inject`](super::Emulator::inject):
/// all of them, unless it is told more.
///
/// ```
/// use udmabuf::emulator::{Emulator, SyncFault};
///
/// let emulator = Emulator::new();
/// let buffer = emulator.buffer(4096);
/// emulator.inject(SyncFault::all().of(buffer.name()).for_device().times(1));
///
/// let failed = buffer.into_device().unwrap_err();
/// let buffer = failed.value; // still the CPU's
/// assert!(buffer.into_device().is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use = "`Emulator::inject` takes it"]
pub struct SyncFault {
    buffer: Option<String>,
    side: Option<Side>,
    after: u64,
    times: u64,
}

impl SyncFault {
    /// Every sync fails, until [`Emulator::clear_faults`](super::Emulator::clear_faults).
    pub fn all() -> Self {
        Self { buffer: None, side: None, after: 0, times: u64::MAX }
    }

    /// Only syncs of the buffer of this name.
    pub fn of(mut self, buffer: &str) -> Self {
        self.buffer = Some(buffer.into());
        self
    }

    /// Only syncs for the device, in handovers.
    pub fn for_device(mut self) -> Self {
        self.side = Some(Side::Device);
        self
    }

    /// Only syncs for the CPU, when it takes back.
    pub fn for_cpu(mut self) -> Self {
        self.side = Some(Side::Cpu);
        self
    }

    /// The first `syncs` of those succeed.
    pub fn after(mut self, syncs: u64) -> Self {
        self.after = syncs;
        self
    }

    /// Then only `syncs` fail.
    pub fn times(mut self, syncs: u64) -> Self {
        self.times = syncs;
        self
    }

    /// Counts a sync, if it is one of those, and says whether it fails.
    pub(super) fn hits(&mut self, buffer: &str, side: Side) -> bool {
        let matches = self.buffer.as_deref().is_none_or(|of| of == buffer)
            && self.side.is_none_or(|of| of == side);
        if !matches {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        if self.times == 0 {
            return false;
        }
        self.times -= 1;
        true
    }
}
