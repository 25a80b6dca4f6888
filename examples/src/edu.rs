//! QEMU's educational PCI device, whose DMA moves data between buffers and
//! 4 KiB of memory of its own; in QEMU, or as a model on the emulator.
//!
//! Registers: QEMU's `docs/specs/edu.rst`.
#![allow(unsafe_code, reason = "vouches for the engine and for its registers")]

mod model;

use std::{
    ops::Range,
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use udmabuf::{
    Buffer, Busy, DeviceOwned, DmaAddr, Engine, FromDevice, Progress, Slot, Started, ToDevice,
    emulator::{Bus, Emulator},
};
use udmabuf_uio::{
    BusMaster, Interrupt, Io, Mmio, Pci, Registers, block,
    emulator::{Emulated, Faults, emulate_with},
};

const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x11e8;

block! {
    /// BAR 0, as far as it holds registers.
    struct Regs: 0x1000 bytes {
        0x00 => IDENTIFICATION: ReadOnly<u32>,
        0x04 => LIVENESS: ReadWrite<u32>,
        0x08 => FACTORIAL: ReadWrite<u32>,
        0x20 => STATUS: ReadWrite<u32>,
        0x24 => INTERRUPT_STATUS: ReadOnly<u32>,
        0x64 => INTERRUPT_ACKNOWLEDGE: WriteOnly<u32>,
        0x80 => DMA_SOURCE: ReadWrite<u32>,
        0x88 => DMA_DESTINATION: ReadWrite<u32>,
        0x90 => DMA_COUNT: ReadWrite<u32>,
        0x98 => DMA_COMMAND: ReadWrite<u32>,
    }
}

const IDENTITY: u32 = 0x00ed;
const IDENTITY_MASK: u32 = 0xffff;
const STATUS_COMPUTING: u32 = 1 << 0;
const STATUS_INTERRUPT: u32 = 1 << 7;
const INTERRUPT_FACTORIAL: u32 = 0x001;
const INTERRUPT_DMA: u32 = 0x100;
const COMMAND_START: u32 = 1 << 0;
const COMMAND_FROM_DEVICE: u32 = 1 << 1;
const COMMAND_INTERRUPT: u32 = 1 << 2;

/// Where the device's own memory is, for its DMA.
const MEMORY: u32 = 0x4_0000;
/// Bytes of the device's own memory that a transfer can use: all but the last,
/// at which QEMU 7.2 and older give up and end.
pub const MEMORY_LEN: usize = 4095;
/// Address lines of the device, unless QEMU's option `dma_mask` says otherwise.
const ADDR_BITS: u32 = 28;
/// The device takes 100 ms for a transfer of any size: it is idle after that.
const DRAIN: Duration = Duration::from_secs(2);

/// What goes wrong on the device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be opened, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// The range is not in the buffer, or the buffer out of the device's reach.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The range does not fit into the device's memory.
    #[error("{len} bytes at {at} do not fit into the device's {MEMORY_LEN} bytes")]
    OutsideDevice {
        /// Bytes asked for.
        len: usize,
        /// Offset in the device's memory, in bytes.
        at: usize,
    },
    /// The transfer was given up: the device was cut off from memory.
    #[error("the transfer was given up: the device was cut off from memory")]
    CutOff,
    /// Something else answers at this address.
    #[error("not an edu device: it identifies itself as {0:#010x}")]
    Identity(u32),
    /// The device does not come to rest.
    #[error("the device is still busy after {DRAIN:?}")]
    NotIdle,
    /// The device does not answer as it should.
    #[error("the device wrote back {0:#010x} where it should have inverted it")]
    NotAlive(u32),
}

/// An edu device that this process drives alone.
#[derive(Debug)]
pub struct Edu<I: Io + Send = Mmio>(Slot<Dma<I>>);

/// The device's DMA engine: what a transfer holds while it runs.
#[derive(Debug)]
pub struct Dma<I = Mmio> {
    regs: Registers<Regs, I>,
    interrupt: Interrupt,
    bus_master: BusMaster,
    /// While true, what the device does reaches no memory.
    cut_off: bool,
    addr_bits: u32,
    interrupts: u64,
    /// Where the device finds memory.
    memory: Memory,
}

/// Where the device finds memory.
#[derive(Debug)]
enum Memory {
    /// On an emulated bus.
    Emulated(Bus),
    /// As QEMU's device on the PCI bus, behind an IOMMU or not.
    Pci { device: String, is_translated: bool },
}

impl Edu {
    /// Opens the first edu device that is bound to a driver for userspace and
    /// free, and stops it. Its transfers reach 28 bits of bus
    /// addresses, as those of QEMU's `-device edu` do.
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::Identity`], [`Error::NotAlive`]
    pub fn open() -> Result<Self, Error> {
        let pci = Pci::open(VENDOR, DEVICE)?;
        // SAFETY: the numbers are edu's, and 28 bits are within the reach of any.
        unsafe { Self::on(pci, ADDR_BITS) }
    }

    /// Opens a device that reaches 32 bits of bus addresses.
    ///
    /// # Safety
    /// QEMU was started with `-device edu,dma_mask=0xffffffff`. The device does
    /// not tell, and where it cannot reach it writes elsewhere.
    ///
    /// # Errors
    /// As [`Edu::open`].
    pub unsafe fn open_with_32_bits() -> Result<Self, Error> {
        let pci = Pci::open(VENDOR, DEVICE)?;
        // SAFETY: the caller's promise.
        unsafe { Self::on(pci, 32) }
    }

    /// Drives a device that was found some other way: by its address.
    ///
    /// # Safety
    /// It is an edu device, and reaches `addr_bits` bits of bus addresses.
    ///
    /// # Errors
    /// As [`Edu::open`].
    pub unsafe fn on(pci: Pci, addr_bits: u32) -> Result<Self, Error> {
        // SAFETY: the registers are those of QEMU's description, and DMA is
        // started only by `Dma::start`, with the address of a transfer's buffer.
        let regs = unsafe { pci.registers(0)? };
        let bus_master = pci.bus_master()?;
        let (device, is_translated) = (pci.device().address.clone(), pci.device().is_translated());
        let memory = Memory::Pci { device, is_translated };
        Self::new(regs, pci.into_interrupt()?, bus_master, addr_bits, memory)
    }
}

impl Edu<Emulated> {
    /// Starts a model of the device on the emulator's bus.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn emulated(emulator: &Emulator) -> Result<Self, Error> {
        Self::emulated_with(emulator, &Faults::default())
    }

    /// As [`emulated`](Edu::emulated), with what may go wrong.
    ///
    /// # Errors
    /// As [`Edu::open`].
    pub fn emulated_with(emulator: &Emulator, faults: &Faults) -> Result<Self, Error> {
        let bus = emulator.bus();
        let (regs, interrupt) = emulate_with(model::Model::new(bus.clone()), faults)?;
        let bus_master = regs.bus_master()?;
        Self::new(regs, interrupt, bus_master, 32, Memory::Emulated(bus))
    }
}

impl<I: Io + Send> Edu<I> {
    fn new(
        regs: Registers<Regs, I>,
        interrupt: Interrupt,
        bus_master: BusMaster,
        addr_bits: u32,
        memory: Memory,
    ) -> Result<Self, Error> {
        let identity = regs.read(Regs::IDENTIFICATION);
        if identity & IDENTITY_MASK != IDENTITY {
            return Err(Error::Identity(identity));
        }
        regs.write(Regs::LIVENESS, 0x5555_aaaa);
        let inverted = regs.read(Regs::LIVENESS);
        if inverted != !0x5555_aaaa {
            return Err(Error::NotAlive(inverted));
        }
        let cut_off = true; // `Pci` gives it so
        Ok(Self(Slot::new(Dma {
            regs,
            interrupt,
            bus_master,
            cut_off,
            addr_bits,
            interrupts: 0,
            memory,
        })))
    }

    /// Copies `range` of the buffer to the device's memory at offset `at`.
    ///
    /// # Errors
    /// [`Busy`] while a transfer is running; [`Error::OutsideDevice`],
    /// [`Error::Buffer`]. The buffer is in the error.
    pub fn upload(
        &self,
        source: Buffer<DeviceOwned, ToDevice>,
        range: Range<usize>,
        at: usize,
    ) -> Started<Dma<I>, Buffer<DeviceOwned, ToDevice>> {
        self.0.start(source, |dma, source| {
            let from = source.dma_addr_of(range.clone())?;
            let (memory, count) = device_range(at, range.len())?;
            dma.start(from, memory, count, 0)
        })
    }

    /// Copies from the device's memory at offset `at` to `range` of the buffer.
    ///
    /// # Errors
    /// As [`Edu::upload`].
    pub fn download(
        &self,
        destination: Buffer<DeviceOwned, FromDevice>,
        range: Range<usize>,
        at: usize,
    ) -> Started<Dma<I>, Buffer<DeviceOwned, FromDevice>> {
        self.0.start(destination, |dma, destination| {
            let to = destination.dma_addr_of(range.clone())?;
            let (memory, count) = device_range(at, range.len())?;
            dma.start(to, memory, count, COMMAND_FROM_DEVICE)
        })
    }

    /// How many interrupts have ended a wait.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn interrupts(&self) -> Result<u64, Busy> {
        self.0.with(|dma| dma.interrupts)
    }

    /// How many interrupts the kernel has counted that no wait ended for.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn missed_interrupts(&self) -> Result<u64, Busy> {
        self.0.with(|dma| dma.interrupt.missed())
    }

    /// The product of 1 to `n`, as far as it fits into 32 bits; `None` if the
    /// device has not computed it at the deadline.
    ///
    /// # Errors
    /// [`Busy`] while a transfer is running; [`Error::Uio`] inside.
    pub fn factorial(&self, n: u32, deadline: Instant) -> Result<Result<Option<u32>, Error>, Busy> {
        self.0.with(|dma| dma.factorial(n, deadline))
    }
}

/// The device's own address of `len` bytes at `at` of its memory, and `len`.
/// The device does not check: QEMU ends when a transfer leaves the memory.
fn device_range(at: usize, len: usize) -> Result<(u32, u32), Error> {
    let end = at.checked_add(len).filter(|&end| end <= MEMORY_LEN && len > 0);
    match (end, u32::try_from(at), u32::try_from(len)) {
        (Some(_), Ok(at), Ok(count)) => Ok((MEMORY + at, count)),
        _ => Err(Error::OutsideDevice { len, at }),
    }
}

impl<I: Io> Dma<I> {
    fn start(&mut self, buffer: DmaAddr, memory: u32, count: u32, way: u32) -> Result<(), Error> {
        if self.cut_off {
            self.resume()?;
        }
        let (buffer, _) = buffer.to_words(self.addr_bits)?;
        let (from, to) = if way == 0 { (buffer, memory) } else { (memory, buffer) };
        self.regs.write(Regs::DMA_SOURCE, from);
        self.regs.write(Regs::DMA_DESTINATION, to);
        self.regs.write(Regs::DMA_COUNT, count);
        self.regs.write(Regs::DMA_COMMAND, COMMAND_START | COMMAND_INTERRUPT | way);
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.regs.read(Regs::DMA_COMMAND) & COMMAND_START != 0
    }

    /// Lets the device access memory again, once it does not want to.
    fn resume(&mut self) -> Result<(), Error> {
        let give_up = Instant::now() + DRAIN;
        while self.is_busy() {
            if Instant::now() > give_up {
                return Err(Error::NotIdle);
            }
            thread::sleep(Duration::from_millis(1));
            self.interrupt.check()?;
        }
        self.regs.write(Regs::INTERRUPT_ACKNOWLEDGE, INTERRUPT_DMA);
        // SAFETY: the device is idle, so it is programmed to access nothing.
        unsafe { self.bus_master.allow()? };
        self.cut_off = false;
        Ok(())
    }

    fn factorial(&mut self, n: u32, deadline: Instant) -> Result<Option<u32>, Error> {
        self.interrupt.check()?;
        self.regs.write(Regs::INTERRUPT_ACKNOWLEDGE, INTERRUPT_FACTORIAL);
        self.regs.write(Regs::STATUS, STATUS_INTERRUPT);
        self.regs.write(Regs::FACTORIAL, n);
        // Not for the end of computing, after which the interrupt still comes: nobody
        // would take it, and it would end the wait for a transfer.
        while self.regs.read(Regs::INTERRUPT_STATUS) & INTERRUPT_FACTORIAL == 0 {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.park(deadline)?;
        }
        self.regs.write(Regs::INTERRUPT_ACKNOWLEDGE, INTERRUPT_FACTORIAL);
        Ok(Some(self.regs.read(Regs::FACTORIAL)))
    }
}

// SAFETY: the device accesses memory only between the write of the command in
// `start`, the last there, and the end of that command, and only the bytes that
// `dma_addr_of` found in the buffer and `addr_bits` within its reach. Without
// bus mastering it accesses none. Its bus addresses are those of what was made for
// it and, as the kernel says, of the rest where no IOMMU is in front of it. `Pci`
// keeps other drivers out that heed locks; a model is this process's own.
unsafe impl<I: Io> Engine for Dma<I> {
    type Error = Error;

    fn bus(&self) -> Option<&Bus> {
        match &self.memory {
            Memory::Emulated(bus) => Some(bus),
            Memory::Pci { .. } => None,
        }
    }

    fn reaches(&self, made_for: Option<&str>) -> bool {
        let Memory::Pci { device, is_translated } = &self.memory else { return false };
        match made_for {
            Some(made_for) => made_for.strip_prefix("pci/") == Some(device),
            None => !is_translated,
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        Ok(self.interrupt.check()?)
    }

    fn poll(&mut self) -> Progress<Error> {
        let status = self.regs.read(Regs::INTERRUPT_STATUS);
        self.regs.write(Regs::INTERRUPT_ACKNOWLEDGE, status);
        match self.is_busy() {
            true => Progress::Running,
            false if self.cut_off => Progress::Failed(Error::CutOff),
            false => Progress::Finished,
        }
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.interrupts += u64::from(self.interrupt.wait(deadline)?);
        Ok(())
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Error> {
        self.interrupts += u64::from(self.interrupt.watch(waker)?);
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        // It goes on, but reaches no memory; `resume` waits until it is idle.
        self.cut_off = true;
        Ok(self.bus_master.forbid()?)
    }
}
