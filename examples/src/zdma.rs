//! The DMA channels of AMD's Zynq UltraScale+ and Versal ("ZDMA", "GDMA",
//! "ADMA"), memory to memory in simple mode, through UIO.
//!
//! Registers: UG1087, module ZDMA. Behaviour: UG1085, chapter "DMA Controller".
//! The device tree gives a channel to this driver by
//! `compatible = "generic-uio"`.
#![allow(unsafe_code, reason = "vouches for the engine and for its registers")]

use std::{
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use udmabuf::{Buffer, Busy, DeviceOwned, Engine, FromDevice, Progress, Slot, Started, ToDevice};
use udmabuf_uio::{Inner, Interrupt, Registers, Uio, block};

block! {
    /// One channel's registers.
    struct Regs: 0x204 bytes, align 4 {
        /// Interrupt status; writing a 1 clears the bit.
        0x100 => ISR: WriteEffect<u32>,
        0x108 => INTERRUPT_ENABLE: WriteOnly<u32>,
        0x10c => INTERRUPT_DISABLE: WriteOnly<u32>,
        0x110 => CTRL0: ReadWrite<u32>,
        0x11c => STATUS: ReadOnly<u32>,
        0x120 => DATA_ATTR: ReadWrite<u32>,
        0x128 => SOURCE: Descriptor,
        0x138 => DESTINATION: Descriptor,
        0x200 => CTRL2: ReadWrite<u32>,
    }
}

block! {
    /// Four words that say where one side of the copy is.
    struct Descriptor: 0x10 bytes, align 4 {
        0x0 => ADDR_LOW: ReadWrite<u32>,
        0x4 => ADDR_HIGH: ReadWrite<u32>,
        0x8 => SIZE: ReadWrite<u32>,
        0xc => CONTROL: ReadWrite<u32>,
    }
}

const ISR_ALL: u32 = 0xfff;
const ISR_DONE: u32 = 1 << 10;
/// Errors on the bus: data write, data read, descriptor reads, register access.
const ISR_ERRORS: u32 = 1 << 9 | 1 << 8 | 1 << 7 | 1 << 6 | 1 << 0;
/// Simple mode, read and write: the reset value.
const CTRL0_SIMPLE: u32 = 0x80;
const STATUS_STATE: u32 = 0b11;
const STATUS_PAUSED: u32 = 0b01;
const STATUS_BUSY: u32 = 0b10;
/// The reset value: incrementing bursts of 16, and no cache attributes but
/// "modifiable".
const DATA_ATTR_RESET: u32 = 0x0483_d20f;
/// Both sides write-back, allocating: what a snooped transaction needs.
const DATA_ATTR_SNOOPED: u32 = DATA_ATTR_RESET | 0xf << 22 | 0xf << 8;
/// This side of the copy snoops the CPU's caches.
const CONTROL_COHERENT: u32 = 1;
const CTRL2_ENABLE: u32 = 1;

/// Address lines that the engine drives.
const ADDR_BITS: u32 = 49;
/// The size field has 30 bits.
const MAX_LEN: usize = (1 << 30) - 1;
/// Longer than the largest copy takes.
const DRAIN: Duration = Duration::from_secs(10);

/// What goes wrong on a channel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be opened, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// A buffer is out of the engine's reach.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The destination cannot hold the source.
    #[error("the source has {source_len} bytes, the destination only {destination_len}")]
    TooSmall {
        /// Bytes in the source.
        source_len: usize,
        /// Bytes in the destination.
        destination_len: usize,
    },
    /// More than one transfer can move.
    #[error("{0} bytes are more than the {MAX_LEN} that one transfer can move")]
    TooLong(usize),
    /// The engine met an error on the bus.
    #[error("the engine met an error on the bus: interrupt status {0:#x}")]
    Bus(u32),
    /// The engine does not come to rest.
    #[error("the engine is still busy after {DRAIN:?}")]
    NotIdle,
}

/// The buffers of a copy: source and destination.
pub type Pair = (Buffer<DeviceOwned, ToDevice>, Buffer<DeviceOwned, FromDevice>);

/// A DMA channel that this process drives alone.
#[derive(Debug)]
pub struct Zdma(Slot<Channel>);

/// The channel's engine: what a transfer holds while it runs.
#[derive(Debug)]
pub struct Channel {
    regs: Registers<Regs>,
    interrupt: Interrupt,
    /// From the enable bit until the interrupt status says how it ended: right
    /// after that bit, the state need not be "busy" yet.
    started: bool,
    interrupts: u64,
}

impl Zdma {
    /// Opens the first free channel that is a UIO device called `name`, waits
    /// until it is idle and resets it.
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::NotIdle`]
    pub fn open(name: &str) -> Result<Self, Error> {
        let uio = Uio::open(name)?;
        // SAFETY: the registers are those of UG1087, and DMA is started only by
        // `Channel::program`, with the addresses of a transfer's buffers.
        let regs = unsafe { uio.registers(0)? };
        let interrupt = uio.into_interrupt()?;
        let mut channel = Channel { regs, interrupt, started: false, interrupts: 0 };
        channel.stop()?;
        channel.regs.write(Regs::INTERRUPT_DISABLE, ISR_ALL);
        channel.regs.write(Regs::CTRL0, CTRL0_SIMPLE);
        channel.regs.write(Regs::INTERRUPT_ENABLE, ISR_DONE | ISR_ERRORS);
        Ok(Self(Slot::new(channel)))
    }

    /// Copies the whole source to the start of the destination.
    ///
    /// # Errors
    /// [`Busy`] while a copy is running; [`Error::TooSmall`],
    /// [`Error::TooLong`], [`Error::Buffer`]. The buffers are in the error.
    pub fn copy(
        &self,
        source: Buffer<DeviceOwned, ToDevice>,
        destination: Buffer<DeviceOwned, FromDevice>,
    ) -> Started<Channel, Pair> {
        self.0.start((source, destination), Channel::program)
    }

    /// How many interrupts the channel has raised.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn interrupts(&self) -> Result<u64, Busy> {
        self.0.with(|channel| channel.interrupts)
    }
}

impl Channel {
    fn program(&mut self, (source, destination): &Pair) -> Result<(), Error> {
        let len = source.len();
        if destination.len() < len {
            return Err(Error::TooSmall { source_len: len, destination_len: destination.len() });
        }
        let size = u32::try_from(len).ok().filter(|_| len <= MAX_LEN).ok_or(Error::TooLong(len))?;
        let from = source.dma_addr().to_words(ADDR_BITS)?;
        let to = destination.dma_addr().to_words(ADDR_BITS)?;

        let snooped = source.is_coherent() || destination.is_coherent();
        self.regs.write(Regs::DATA_ATTR, if snooped { DATA_ATTR_SNOOPED } else { DATA_ATTR_RESET });
        self.describe(Regs::SOURCE, from, size, source.is_coherent());
        self.describe(Regs::DESTINATION, to, size, destination.is_coherent());
        self.regs.write(Regs::ISR, ISR_ALL);
        self.regs.write(Regs::CTRL2, CTRL2_ENABLE);
        self.started = true;
        Ok(())
    }

    fn describe(
        &self,
        at: Inner<Regs, Descriptor>,
        (low, high): (u32, u32),
        size: u32,
        coherent: bool,
    ) {
        self.regs.write(at.register(Descriptor::ADDR_LOW), low);
        self.regs.write(at.register(Descriptor::ADDR_HIGH), high);
        self.regs.write(at.register(Descriptor::SIZE), size);
        self.regs
            .write(at.register(Descriptor::CONTROL), if coherent { CONTROL_COHERENT } else { 0 });
    }

    /// The interrupt status once the engine has come to rest.
    fn ended(&mut self) -> Option<u32> {
        let status = self.regs.read(Regs::ISR);
        let state = self.regs.read(Regs::STATUS) & STATUS_STATE;
        let said_so = !self.started || status & (ISR_DONE | ISR_ERRORS) != 0;
        if !said_so || state == STATUS_BUSY || state == STATUS_PAUSED {
            return None;
        }
        self.started = false;
        self.regs.write(Regs::ISR, ISR_ALL);
        Some(status)
    }
}

// SAFETY: the channel accesses memory only after `program` has written the
// enable bit last, only at the two addresses of the transfer and for as many
// bytes as both buffers have. It is done once it has said "done" or "error" and
// its state is neither busy nor paused. `Uio` keeps other drivers out that heed
// locks.
unsafe impl Engine for Channel {
    type Error = Error;

    fn poll(&mut self) -> Progress<Error> {
        match self.ended() {
            None => Progress::Running,
            Some(status) if status & ISR_ERRORS != 0 => Progress::Failed(Error::Bus(status)),
            Some(_) => Progress::Finished,
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

    /// A copy in simple mode cannot be broken off; it ends by itself.
    fn stop(&mut self) -> Result<(), Error> {
        let give_up = Instant::now() + DRAIN;
        while self.ended().is_none() {
            if Instant::now() > give_up {
                return Err(Error::NotIdle);
            }
            thread::yield_now();
        }
        Ok(())
    }
}
