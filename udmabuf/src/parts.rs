//! What one transfer uses: a buffer, or several.

use crate::{Buffer, CpuOwned, DeviceOwned, Direction, Error, emulator::Bus};

/// The device-owned buffers of one transfer: a buffer, a pair, or a `Vec`.
///
/// Sealed: only this crate can call its functions, or implement them.
pub trait Parts {
    /// The same buffers, the CPU's again.
    type Cpu;

    /// Names the first that is not on this bus, or not on the hardware's.
    #[doc(hidden)]
    fn check_bus(&self, bus: Option<&Bus>, _: sealed::Crate) -> Result<(), String>;

    /// Syncs all of them, whichever of them fails: afterwards an emulated device
    /// is locked out of all. After a failure it can be called again.
    #[doc(hidden)]
    fn sync_for_cpu(&self, _: sealed::Crate) -> Result<(), Error>;

    /// Turns them over, once the device is done with them.
    #[doc(hidden)]
    fn assume_cpu(self, _: sealed::Crate) -> Self::Cpu;
}

pub(crate) mod sealed {
    /// What nobody outside the crate can name.
    #[derive(Clone, Copy, Debug)]
    pub struct Crate;
}

impl<D: Direction> Parts for Buffer<DeviceOwned, D> {
    type Cpu = Buffer<CpuOwned, D>;

    fn check_bus(&self, bus: Option<&Bus>, _: sealed::Crate) -> Result<(), String> {
        if self.memory().bus() == bus { Ok(()) } else { Err(self.name().into()) }
    }

    fn sync_for_cpu(&self, _: sealed::Crate) -> Result<(), Error> {
        self.memory().sync_for_cpu(D::KIND)
    }

    fn assume_cpu(self, _: sealed::Crate) -> Self::Cpu {
        Buffer::assume_cpu(self)
    }
}

impl<A: Parts, B: Parts> Parts for (A, B) {
    type Cpu = (A::Cpu, B::Cpu);

    fn check_bus(&self, bus: Option<&Bus>, by: sealed::Crate) -> Result<(), String> {
        self.0.check_bus(bus, by)?;
        self.1.check_bus(bus, by)
    }

    fn sync_for_cpu(&self, by: sealed::Crate) -> Result<(), Error> {
        let first = self.0.sync_for_cpu(by);
        first.and(self.1.sync_for_cpu(by))
    }

    fn assume_cpu(self, by: sealed::Crate) -> Self::Cpu {
        (self.0.assume_cpu(by), self.1.assume_cpu(by))
    }
}

impl<P: Parts> Parts for Vec<P> {
    type Cpu = Vec<P::Cpu>;

    fn check_bus(&self, bus: Option<&Bus>, by: sealed::Crate) -> Result<(), String> {
        self.iter().try_for_each(|part| part.check_bus(bus, by))
    }

    fn sync_for_cpu(&self, by: sealed::Crate) -> Result<(), Error> {
        let mut result = Ok(());
        for part in self {
            result = result.and(part.sync_for_cpu(by));
        }
        result
    }

    fn assume_cpu(self, by: sealed::Crate) -> Self::Cpu {
        self.into_iter().map(|part| part.assume_cpu(by)).collect()
    }
}
