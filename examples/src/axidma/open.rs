//! Opening a core: a real one through UIO, or a model.
#![allow(unsafe_code, reason = "vouches for the registers")]

use std::sync::Arc;

use udmabuf::{
    Addressed, Bidirectional, Buffer, CpuOwned,
    emulator::{Bus, Emulator},
};
use udmabuf_uio::{
    Interrupt, Io, Mmio, Registers, Uio,
    emulator::{Emulated, Faults, emulate_with},
};

use super::{
    Build, Controls, Error, Mm2s, Mode, Model, Port, S2mm,
    core::Core,
    registers::{DESCRIPTOR_LEN, Regs},
};

/// The channels of a core that this process drives alone.
#[derive(Debug)]
pub struct AxiDma<I: Io = Mmio> {
    /// From memory to the stream.
    pub mm2s: Mm2s<I>,
    /// From the stream to memory.
    pub s2mm: S2mm<I>,
}

impl AxiDma {
    /// Opens the first free core that is a UIO device called `name`, as if it was
    /// built with the [least](Build::LEAST), and resets it. One whose length register
    /// is narrower than that cuts long parts short.
    ///
    /// ```no_run
    /// # use udmabuf_examples::axidma::AxiDma;
    /// let AxiDma { mm2s, s2mm } = AxiDma::open("dma")?;
    /// # let _ = (mm2s, s2mm);
    /// # Ok::<(), udmabuf_examples::axidma::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::NotReset`], [`Error::NotThere`]
    pub fn open(name: &str) -> Result<Self, Error> {
        // SAFETY: every core has that, but for the length: told of more than its
        // register holds, a core moves less.
        unsafe { Self::open_with(name, Build::LEAST) }
    }

    /// As [`open`](Self::open), for a core of which more is known.
    ///
    /// # Safety
    /// The core was built with these parameters: it does not tell, and would
    /// access other memory than it was told to.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Build`].
    pub unsafe fn open_with(name: &str, build: Build) -> Result<Self, Error> {
        let uio = Uio::open(name)?;
        // SAFETY: the registers are those of PG021, and DMA is started only by
        // `Core`'s functions for that, with the parts of a transfer or a ring.
        let registers = unsafe { uio.registers(0)? };
        Self::new(registers, uio.into_interrupt()?, build, None)
    }
}

impl AxiDma<Emulated> {
    /// Starts a model of a core whose stream goes from MM2S to S2MM; its
    /// [`Controls`] let things go wrong.
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::Build`]
    pub fn emulated(
        emulator: &Emulator,
        build: Build,
        mode: Mode,
    ) -> Result<(Self, Controls), Error> {
        let controls = Controls::default();
        let dma = Self::emulated_with(emulator, build, mode, &controls, &Faults::default())?;
        Ok((dma, controls))
    }

    /// As [`emulated`](Self::emulated), with what else may go wrong.
    ///
    /// # Errors
    /// As [`emulated`](Self::emulated).
    pub fn emulated_with(
        emulator: &Emulator,
        build: Build,
        mode: Mode,
        controls: &Controls,
        faults: &Faults,
    ) -> Result<Self, Error> {
        let bus = emulator.bus();
        let model = Model::new(bus.clone(), build.check()?, mode, controls.clone());
        let (registers, interrupt) = emulate_with(model, faults)?;
        Self::new(registers, interrupt, build, Some(bus))
    }
}

impl<I: Io> AxiDma<I> {
    /// Whether the core was built with it, or for direct register mode.
    #[must_use]
    pub fn has_scatter_gather(&self) -> bool {
        self.mm2s.has_scatter_gather()
    }

    /// Gives each channel one half of the memory, for its descriptors; see
    /// [`Port::use_descriptors`].
    ///
    /// # Errors
    /// As there, and [`Error::Buffer`] if it has no two descriptors' bytes. The
    /// memory is free again when all that is left of the core is dropped.
    pub fn use_descriptors<M: Addressed>(
        &self,
        memory: Buffer<CpuOwned, Bidirectional, M>,
    ) -> Result<(), Error> {
        let half = memory.len() / 2 / DESCRIPTOR_LEN * DESCRIPTOR_LEN;
        let (mm2s, s2mm) = memory.split_at(half).map_err(|refused| refused.error)?;
        self.mm2s.use_descriptors(mm2s).map_err(|refused| refused.error)?;
        self.s2mm.use_descriptors(s2mm).map_err(|refused| refused.error)
    }

    fn new(
        registers: Registers<Regs, I>,
        interrupt: Interrupt,
        build: Build,
        bus: Option<Bus>,
    ) -> Result<Self, Error> {
        let core = Arc::new(Core::new(registers, interrupt, build.check()?, bus)?);
        Ok(Self { mm2s: Port::new(core.clone()), s2mm: Port::new(core) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use udmabuf::{FromDevice, ToDevice, Uncached};

    use super::*;

    /// Most are built for the whole memory of their chip.
    #[test]
    fn a_core_has_more_address_bits_than_one_was_told() {
        let (emulator, limit) = (Emulator::new().with_adversary(), Duration::from_secs(5));
        for mode in [Mode::Direct, Mode::ScatterGather] {
            let (bus, wide) = (emulator.bus(), Build { addr_bits: 40, ..Build::LEAST });
            let model = Model::new(bus.clone(), wide, mode, Controls::default());
            let (registers, interrupt) = emulate_with(model, &Faults::default()).unwrap();
            let dma = AxiDma::new(registers, interrupt, Build::LEAST, Some(bus)).unwrap();
            if mode == Mode::ScatterGather {
                dma.use_descriptors(emulator.buffer_mapped::<Uncached>(128)).unwrap();
            }
            let mut packet = emulator.buffer(256).for_direction::<ToDevice>();
            packet.as_mut_slice().fill(7);
            let sink = emulator.buffer(256).for_direction::<FromDevice>();
            let receiving = dma.s2mm.receive(sink.into_device().unwrap()).unwrap();
            dma.mm2s.send(packet.into_device().unwrap()).unwrap().wait(limit).unwrap();
            assert_eq!(receiving.wait(limit).unwrap().as_slice(), [7; 256]);
        }
    }
}
