//! Parts that wait for an engine, and that none was told of yet.
#![allow(unsafe_code, reason = "takes back what no engine was told of")]

use udmabuf::{Buffer, CpuParts as _, DeviceOwned, FromDevice, Handoff, Parts, ToDevice};

use super::Part;

pub(super) type Source = Buffer<DeviceOwned, ToDevice>;
pub(super) type Destination = Buffer<DeviceOwned, FromDevice>;

/// How a part waits for an engine that is busy.
pub trait Waiting: Sized {
    /// Makes it ready, while the engine works.
    ///
    /// # Errors
    /// It cannot be handed over, and is in the error.
    fn prepare(part: Part) -> Result<Self, Handoff<Part>>;

    /// Takes it back, as no engine was told of it; `None` if that fails.
    fn call_back(self) -> Option<Part>;
}

/// As the CPU's: for a lane that hands over what it gives to the engine.
impl Waiting for Part {
    fn prepare(part: Part) -> Result<Self, Handoff<Part>> {
        Ok(part)
    }

    fn call_back(self) -> Option<Part> {
        Some(self)
    }
}

/// Buffers that were handed over, so that nothing but the start is left to do.
/// Dropped, they are the CPU's again.
///
/// # Invariants
/// Since they were handed over, nobody but this has had them.
#[derive(Debug)]
pub struct Handed<P: Parts>(Option<P>);

impl Waiting for Handed<(Source, Destination)> {
    fn prepare(part: Part) -> Result<Self, Handoff<Part>> {
        part.into_device().map(|parts| Self(Some(parts)))
    }

    fn call_back(mut self) -> Option<Part> {
        self.take_back()
    }
}

impl Handed<(Source, Destination)> {
    /// Each for an engine, or a turn, of its own.
    #[must_use]
    pub fn split(mut self) -> (Handed<Source>, Handed<Destination>) {
        match self.0.take() {
            Some((source, destination)) => (Handed(Some(source)), Handed(Some(destination))),
            None => (Handed(None), Handed(None)),
        }
    }
}

impl<P: Parts> Handed<P> {
    /// For the engine, which starts on them.
    #[must_use]
    pub fn give(mut self) -> P {
        match self.0.take() {
            Some(parts) => parts,
            None => unreachable!("only what consumes it empties it"),
        }
    }

    fn take_back(&mut self) -> Option<P::Cpu> {
        let parts = self.0.take()?;
        // SAFETY: they were the CPU's before they were handed over, and by the
        // invariant no engine was told of them since.
        unsafe { parts.into_cpu() }.ok()
    }
}

impl<P: Parts> Drop for Handed<P> {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[cfg(test)]
mod tests {
    use udmabuf::emulator::Emulator;

    use super::*;

    /// What a device could still write.
    #[test]
    fn what_is_dropped_or_called_back_is_the_cpus() {
        let emulator = Emulator::new();
        let handed = || {
            let [source, destination] = [(); 2].map(|()| emulator.buffer(64));
            let part = (source.for_direction(), destination.for_direction());
            Handed::prepare(part).unwrap()
        };
        let is_lent = |addr| emulator.bus().write(addr, &[1; 64]).is_ok();

        let (source, destination) = handed().split();
        let addr = destination.0.as_ref().unwrap().dma_addr().to_u64();
        assert!(is_lent(addr));
        drop(destination);
        assert!(!is_lent(addr));
        let given = source.give();
        assert!(emulator.bus().read(given.dma_addr().to_u64(), &mut [0; 64]).is_ok());

        let handed = handed();
        let addr = handed.0.as_ref().unwrap().1.dma_addr().to_u64();
        let part = handed.call_back().unwrap();
        assert!(!is_lent(addr));
        assert_eq!(part.1.as_slice(), [0; 64]);
    }
}
