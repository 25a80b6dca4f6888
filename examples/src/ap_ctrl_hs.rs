//! The control registers of a core that Vitis HLS made, with the block protocol
//! `ap_ctrl_hs` on an AXI4-Lite interface: whatever the core computes.
//!
//! Registers: UG1399, "S_AXILITE Control Register Map". The first 16 bytes are
//! the same in every core; its arguments follow from 0x10, each at the offset
//! that the generated `x<core>_hw.h` tells. [`accelerator`](crate::accelerator)
//! is a driver that uses this module, and tells how it was written.

use std::{
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use udmabuf::DmaAddr;
use udmabuf_uio::{Block, Inner, Interrupt, Io, Mmio, Registers, bits, block};

bits! {
    /// Control and state.
    pub struct Control(u32) {
        /// Writing 1 starts the core; it reads as 1 until the core has taken its
        /// arguments.
        0 => START: bool,
        /// The core is done. Reading clears it.
        1 => DONE: bool,
        /// The core has nothing to do.
        2 => IDLE: bool,
        /// The core can take its next arguments. Reading clears it.
        3 => READY: bool,
        /// The core starts again whenever it is ready.
        7 => AUTO_RESTART: bool,
        /// The interrupt line is raised.
        9 => INTERRUPT: bool,
    }
}

bits! {
    /// What a core can interrupt for.
    pub struct Events(u32) {
        /// It is done.
        0 => DONE: bool,
        /// It can take its next arguments.
        1 => READY: bool,
    }
}

block! {
    /// The registers that every core has, at its start.
    pub struct ApCtrlHs: 0x10 bytes, align 4 {
        /// Control and state, of which two bits are cleared by reading.
        0x0 => CONTROL: ReadEffectWrite<Control>,
        /// 1 lets interrupts out of the core.
        0x4 => GLOBAL_ENABLE: ReadWrite<u32>,
        /// Which events interrupt.
        0x8 => ENABLE: ReadWrite<Events>,
        /// Which events have; writing a 1 toggles its bit.
        0xc => STATUS: WriteEffect<Events>,
    }
}

block! {
    /// A pointer argument: an address of 64 bits and a reserved word.
    pub struct Pointer: 0xc bytes, align 4 {
        /// Bits 0 to 31.
        0x0 => LOW: ReadWrite<u32>,
        /// Bits 32 to 63.
        0x4 => HIGH: ReadWrite<u32>,
    }
}

/// A core does not come to rest: it has no way to be broken off, or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the core is still busy, or does not answer")]
pub struct NotIdle;

/// A core with registers `K`, which start with [`ApCtrlHs`].
#[derive(Debug)]
pub struct Core<K, I = Mmio> {
    registers: Registers<K, I>,
    control: Inner<K, ApCtrlHs>,
    interrupt: Interrupt,
    /// The core has said so, and nobody has asked yet.
    done: bool,
}

impl<K: Block, I: Io> Core<K, I> {
    /// Takes over a core: waits until it has finished what a driver before may
    /// have left running, and has it interrupt when it is done.
    ///
    /// # Errors
    /// [`NotIdle`] when that takes longer than `patience`.
    pub fn new(
        registers: Registers<K, I>,
        control: Inner<K, ApCtrlHs>,
        interrupt: Interrupt,
        patience: Duration,
    ) -> Result<Self, NotIdle> {
        let mut core = Self { registers, control, interrupt, done: false };
        core.stop(patience)?;
        core.done = false;
        core.acknowledge();
        core.registers
            .write(control.register(ApCtrlHs::ENABLE), Events(0).with(Events::DONE, true));
        core.registers.write(control.register(ApCtrlHs::GLOBAL_ENABLE), 1);
        Ok(core)
    }

    /// The registers, for the arguments.
    pub fn registers(&self) -> &Registers<K, I> {
        &self.registers
    }

    /// Writes a pointer argument.
    ///
    /// # Errors
    /// [`udmabuf::Error::AddressTooWide`] for what is beyond the `bits` that the
    /// core's memory interface has.
    pub fn set_pointer(
        &self,
        argument: Inner<K, Pointer>,
        address: DmaAddr,
        bits: u32,
    ) -> Result<(), udmabuf::Error> {
        let (low, high) = address.to_words(bits)?;
        self.registers.write(argument.register(Pointer::LOW), low);
        self.registers.write(argument.register(Pointer::HIGH), high);
        Ok(())
    }

    /// Starts the core with the arguments as they are. It must be idle, or
    /// [`READY`](Control::READY).
    pub fn start(&mut self) {
        self.done = false;
        self.start_with(Control(0));
    }

    /// Starts the core, and again as soon as it is ready, until [`stop`](Self::stop).
    /// The core goes on meanwhile: after an interrupt, ask [`is_done`](Self::is_done)
    /// first, [`acknowledge`](Self::acknowledge) then, and count on one "done" for
    /// several rounds.
    pub fn start_repeating(&mut self) {
        self.done = false;
        self.start_with(Control(0).with(Control::AUTO_RESTART, true));
    }

    fn start_with(&self, control: Control) {
        let register = self.control.register(ApCtrlHs::CONTROL);
        self.registers.doorbell(register, control.with(Control::START, true));
    }

    /// Whether the core has become done since it was last asked.
    pub fn is_done(&mut self) -> bool {
        self.state();
        std::mem::take(&mut self.done)
    }

    /// Whether the core has nothing to do.
    pub fn is_idle(&mut self) -> bool {
        self.state().is_some_and(|state| state.get(Control::IDLE))
    }

    /// Whoever reads the state, for whatever bit, clears "done": so it is kept.
    /// Where no core answers, all bits are 1: that is none of its states.
    fn state(&mut self) -> Option<Control> {
        let state = self.registers.take(self.control.register(ApCtrlHs::CONTROL));
        let is_there = state != Control(u32::MAX);
        self.done |= is_there && state.get(Control::DONE);
        is_there.then_some(state)
    }

    /// Waits for the core's interrupt, or the deadline, and says how many there
    /// were.
    ///
    /// # Errors
    /// Those of [`Interrupt::wait`].
    pub fn wait(&mut self, deadline: Instant) -> Result<u32, udmabuf_uio::Error> {
        self.interrupt.wait(deadline)
    }

    /// Has `waker` woken by the core's next interrupt, and says how many there
    /// were since the last wait.
    ///
    /// # Errors
    /// Those of [`Interrupt::watch`].
    pub fn watch(&mut self, waker: &Waker) -> Result<u32, udmabuf_uio::Error> {
        self.interrupt.watch(waker)
    }

    /// Clears the interrupt. A 1 written to a bit that is 0 would set it, and
    /// interrupt for nothing.
    pub fn acknowledge(&self) {
        let register = self.control.register(ApCtrlHs::STATUS);
        self.registers.write(register, self.registers.read(register));
    }

    /// Lets the core finish what it has begun, and no more.
    ///
    /// # Errors
    /// [`NotIdle`] when that takes longer than `patience`, or if no core answers.
    pub fn stop(&mut self, patience: Duration) -> Result<(), NotIdle> {
        let start = Instant::now();
        let control = self.control.register(ApCtrlHs::CONTROL);
        if self.state().is_some_and(|state| state.get(Control::AUTO_RESTART)) {
            self.registers.write(control, Control(0));
        }
        loop {
            let state = self.state().ok_or(NotIdle)?;
            if state.get(Control::IDLE) && !state.get(Control::START) {
                return Ok(());
            }
            if start.elapsed() >= patience {
                return Err(NotIdle);
            }
            thread::yield_now();
        }
    }
}
