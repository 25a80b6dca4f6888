//! A core on the emulator, with what its test needs.

use std::{ops::Range, time::Duration};

use udmabuf::{
    Buffer, CpuOwned, DeviceOwned, FromDevice, ToDevice, Uncached, WaitError, emulator::Emulator,
};
use udmabuf_examples::axidma::{AxiDma, Build, Channel, Controls, Mode};
use udmabuf_uio::emulator::{Emulated, Faults};

pub(crate) const LONG: Duration = Duration::from_secs(300);
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// Any byte, any length up to 64 KiB.
pub(crate) const BUILD: Build =
    Build { length_bits: 16, addr_bits: 32, data_bytes: 4, realigns: true };

pub(crate) type Transfer<P> = udmabuf::Transfer<Channel<Emulated>, P>;
pub(crate) type Source = Buffer<DeviceOwned, ToDevice>;
pub(crate) type Sink = Buffer<DeviceOwned, FromDevice>;

pub(crate) struct Bench {
    pub(crate) emulator: Emulator,
    pub(crate) dma: AxiDma<Emulated>,
    pub(crate) controls: Controls,
    pub(crate) faults: Faults,
}

impl Bench {
    pub(crate) fn new(mode: Mode) -> Self {
        Self::on(Emulator::new().with_adversary(), BUILD, mode)
    }

    pub(crate) fn on(emulator: Emulator, build: Build, mode: Mode) -> Self {
        let (controls, faults) = (Controls::default(), Faults::default());
        let dma = AxiDma::emulated_with(&emulator, build, mode, &controls, &faults).unwrap();
        if mode == Mode::ScatterGather {
            // One cannot have a cache; the other can, where the device is coherent.
            let uncached = emulator.buffer_mapped::<Uncached>(16 * 64);
            dma.mm2s.use_descriptors(uncached).unwrap();
            dma.s2mm.use_descriptors(emulator.clone().coherent().buffer(16 * 64)).unwrap();
        }
        Self { emulator, dma, controls, faults }
    }

    /// A buffer of these bytes, the device's.
    pub(crate) fn source(&self, bytes: &[u8]) -> Source {
        let mut buffer = self.emulator.buffer(bytes.len()).for_direction();
        buffer.as_mut_slice().copy_from_slice(bytes);
        buffer.into_device().unwrap()
    }

    /// A buffer of zeroes, the device's.
    pub(crate) fn sink(&self, len: usize) -> Sink {
        self.emulator.buffer(len).for_direction().into_device().unwrap()
    }

    /// The driver kept to its buffers, and to what PG021 defines.
    pub(crate) fn check(&self) {
        assert_eq!(self.emulator.violations(), []);
        assert_eq!(self.controls.undefined(), [""; 0]);
    }

    /// One packet through both channels, whatever was before.
    pub(crate) fn works(&self) {
        let sent = [0x5a; 777];
        let receiving = self.dma.s2mm.receive(self.sink(1024)).unwrap();
        self.dma.mm2s.send(self.source(&sent)).unwrap().wait(LONG).unwrap();
        let received = receiving.wait(LONG).unwrap();
        assert_eq!(received.as_slice()[..777], sent);
        assert_eq!(received.as_slice()[777..], [0; 1024 - 777]);
        assert_eq!(self.dma.s2mm.moved()[0].len, 777);
    }
}

/// Pseudo-random numbers (xorshift), which a seed repeats.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, range: Range<usize>) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        range.start + usize::try_from(self.0 >> 8).unwrap() % range.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| u8::try_from(self.below(0..256)).unwrap()).collect()
    }
}

/// Waits again after a signal or an early timeout; for transfers that must end.
pub(crate) fn late<P: udmabuf::Parts>(
    result: Result<P::Cpu, WaitError<Channel<Emulated>, P>>,
) -> Transfer<P> {
    let transfer = match result {
        Err(WaitError::Timeout { transfer, .. }) => Ok(transfer),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("it is done".into()),
    };
    transfer.unwrap()
}

/// The bytes of parts, one after the other.
pub(crate) fn joined(parts: &[Buffer<CpuOwned, FromDevice>]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.as_slice().to_vec()).collect()
}
