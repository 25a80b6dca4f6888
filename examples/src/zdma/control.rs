//! What a channel is told through its registers, and what it says there.

use std::{
    thread,
    time::{Duration, Instant},
};

use udmabuf_uio::{Inner, Io, Registers};

use super::{
    Error,
    fault::Faults,
    registers::{
        ADDR_BITS, Address, COMMAND_NEXT, COMMAND_PAUSE, COMMAND_STOP, CONTROL_COHERENT,
        CTRL0_CONTINUE, CTRL0_LISTS, CTRL0_SIMPLE, CTRL2_ENABLE, DATA_ATTR_RESET,
        DATA_ATTR_SNOOPED, DESCRIPTOR_ATTR_SNOOPED, ISR_ALL, ISR_DONE, ISR_PAUSED, Regs,
        STATUS_BUSY, STATUS_NOTHING, STATUS_PAUSED, STATUS_STATE, Simple,
    },
    table::{Part, Table, size},
};

/// Longer than the largest copy takes.
const DRAIN: Duration = Duration::from_secs(10);

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// Nothing: it accesses no memory.
    AtRest,
    /// A copy in simple mode, from before the enable bit is written until the
    /// channel has said how it ended: right after that bit, its state need not
    /// be "busy" yet.
    Copy,
    /// A list, as long.
    List,
    /// It is coming to rest, and need not say so.
    Ending,
}

/// A channel's registers and descriptors.
///
/// # Invariants
/// While `run` is [`Run::AtRest`], the channel accesses no memory.
#[derive(Debug)]
pub(super) struct Control<I: Io> {
    regs: Registers<Regs, I>,
    table: Option<Table>,
    run: Run,
    /// A list is to stop after each part, until it is told to go on.
    is_pausing: bool,
    /// The list that is running was told to end early.
    is_cut_short: bool,
    /// What was reported beside a transfer that ended well.
    pub(super) warnings: Faults,
    /// How long stopping waits for the channel to come to rest.
    pub(super) patience: Duration,
}

impl<I: Io> Control<I> {
    /// Takes over a channel, whatever the program before has left it doing.
    pub(super) fn new(regs: Registers<Regs, I>) -> Result<Self, Error> {
        let mut control = Self {
            regs,
            table: None,
            run: Run::Ending,
            is_pausing: false,
            is_cut_short: false,
            warnings: Faults::default(),
            patience: DRAIN,
        };
        control.regs.write(Regs::INTERRUPT_DISABLE, ISR_ALL);
        control.come_to_rest()?;
        let interrupts = ISR_DONE | ISR_PAUSED | Faults::FATAL.bits();
        control.regs.write(Regs::INTERRUPT_ENABLE, interrupts);
        Ok(control)
    }

    /// For tests that write what the driver does not.
    #[cfg(test)]
    pub(super) fn registers(&self) -> &Registers<Regs, I> {
        &self.regs
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.run == Run::AtRest
    }

    /// Has lists' descriptors in another table from now on.
    pub(super) fn set_table(&mut self, table: Table) {
        self.release_table();
        self.table = Some(table);
    }

    fn release_table(&mut self) {
        if let Some(table) = self.table.take().filter(|_| self.run == Run::AtRest) {
            // SAFETY: by the invariant, and what is enabled next has another table.
            unsafe { table.release() }
        }
    }

    /// Starts a copy in simple mode.
    pub(super) fn copy(&mut self, source: Part, destination: Part) -> Result<(), Error> {
        let len = size(source.addr.len())?;
        let from = source.addr.to_words(ADDR_BITS)?;
        let to = destination.addr.to_words(ADDR_BITS)?;
        self.regs.write(Regs::CTRL0, CTRL0_SIMPLE);
        self.describe(Regs::SOURCE, from, len, source.is_coherent);
        self.describe(Regs::DESTINATION, to, len, destination.is_coherent);
        self.enable(Run::Copy, source.is_coherent || destination.is_coherent);
        Ok(())
    }

    fn describe(
        &self,
        at: Inner<Regs, Simple>,
        (low, high): (u32, u32),
        size: u32,
        is_coherent: bool,
    ) {
        self.regs.write(at.register(Simple::ADDR_LOW), low);
        self.regs.write(at.register(Simple::ADDR_HIGH), high);
        self.regs.write(at.register(Simple::SIZE), size);
        let control = if is_coherent { CONTROL_COHERENT } else { 0 };
        self.regs.write(at.register(Simple::CONTROL), control);
    }

    /// Starts a list, whose destinations together are as long as its sources.
    pub(super) fn copy_list(
        &mut self,
        sources: &[Part],
        destinations: &[Part],
    ) -> Result<(), Error> {
        let table = self.table.as_mut().ok_or(Error::NoTable)?;
        let command = if self.is_pausing { COMMAND_PAUSE } else { COMMAND_NEXT };
        let starts = table.write(sources, destinations, command)?;
        let attributes = if table.is_coherent() { DESCRIPTOR_ATTR_SNOOPED } else { 0 };
        for (at, start) in [Regs::SOURCE_START, Regs::DESTINATION_START].into_iter().zip(starts) {
            let (low, high) = start.to_words(ADDR_BITS)?;
            self.regs.write(at.register(Address::LOW), low);
            self.regs.write(at.register(Address::HIGH), high);
        }
        self.regs.write(Regs::CTRL0, CTRL0_LISTS);
        self.regs.write(Regs::DESCRIPTOR_ATTR, attributes);
        let is_coherent = sources.iter().chain(destinations).any(|part| part.is_coherent);
        self.enable(Run::List, is_coherent);
        Ok(())
    }

    fn enable(&mut self, run: Run, is_coherent: bool) {
        let attributes = if is_coherent { DATA_ATTR_SNOOPED } else { DATA_ATTR_RESET };
        self.regs.write(Regs::DATA_ATTR, attributes);
        self.regs.write(Regs::TOTAL_BYTES, self.regs.read(Regs::TOTAL_BYTES));
        self.regs.write(Regs::ISR, ISR_ALL);
        self.run = run;
        self.is_cut_short = false;
        self.regs.doorbell(Regs::CTRL2, CTRL2_ENABLE);
    }

    /// How the transfer ended, once it has.
    pub(super) fn ended(&mut self) -> Option<Result<(), Error>> {
        if self.is_paused() {
            match self.is_pausing {
                // QEMU also says "done", for which there is nobody to wake.
                true => self.regs.write(Regs::ISR, ISR_DONE),
                // It had read ahead, and stopped after what it is now to pass.
                false => self.go_on(),
            }
            return None;
        }
        let faults = self.at_rest()?;
        if faults.intersects(Faults::FATAL) {
            return Some(Err(Error::Faults(faults)));
        }
        self.warnings.insert(faults);
        Some(if self.is_cut_short { Err(Error::CutShort) } else { Ok(()) })
    }

    /// What the channel has reported, once it has come to rest.
    fn at_rest(&mut self) -> Option<Faults> {
        let says_so = self.regs.read(Regs::ISR) & (ISR_DONE | Faults::ENDING.bits()) != 0;
        let state = self.regs.read(Regs::STATUS);
        if matches!(self.run, Run::Copy | Run::List) && !says_so
            || matches!(state & STATUS_STATE, STATUS_BUSY | STATUS_PAUSED)
            || state == STATUS_NOTHING
        {
            return None;
        }
        // All that there is to it, now that nothing more comes.
        let status = self.regs.read(Regs::ISR);
        // QEMU leaves this bit after an error, and then takes the next write to
        // CTRL0 for a start.
        self.regs.write(Regs::CTRL2, 0);
        self.regs.write(Regs::ISR, ISR_ALL);
        self.run = Run::AtRest;
        Some(Faults::of(status))
    }

    /// Whether the channel has stopped between two parts of a list. QEMU has
    /// another code for that in the state, the one for "busy"; but both keep the
    /// interrupt status, as long as nobody clears it.
    pub(super) fn is_paused(&self) -> bool {
        self.regs.read(Regs::ISR) & ISR_PAUSED != 0
            || self.regs.read(Regs::STATUS) & STATUS_STATE == STATUS_PAUSED
    }

    /// Has the list stop after the part that it is at, or the one behind it.
    pub(super) fn pause(&mut self) -> Result<(), Error> {
        self.is_pausing = true;
        // Its status stays, and is no reason to wake anybody.
        self.regs.write(Regs::INTERRUPT_DISABLE, ISR_PAUSED);
        self.command(COMMAND_PAUSE)
    }

    /// Has it go on.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        self.is_pausing = false;
        self.command(COMMAND_NEXT)?;
        if self.run == Run::List && self.is_paused() {
            self.go_on();
        }
        self.regs.write(Regs::INTERRUPT_ENABLE, ISR_PAUSED);
        Ok(())
    }

    fn command(&mut self, command: u32) -> Result<(), Error> {
        // One that is to end early is not told otherwise.
        match &mut self.table {
            Some(table) if self.run == Run::List && !self.is_cut_short => table.command(command),
            _ => Ok(()),
        }
    }

    fn go_on(&self) {
        self.regs.write(Regs::ISR, ISR_PAUSED | ISR_DONE);
        self.regs.doorbell(Regs::CTRL0, CTRL0_LISTS | CTRL0_CONTINUE);
    }

    /// Ends a list after the part that it is at, or the one behind it; a copy in
    /// simple mode only ends by itself (UG1085, "Channel Disabled"). Waits until
    /// the channel is at rest.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.command(COMMAND_STOP)?;
        self.is_cut_short = self.run == Run::List;
        self.come_to_rest()
    }

    fn come_to_rest(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            if self.is_paused() {
                self.disable_paused();
            }
            if self.at_rest().is_some() {
                return Ok(());
            }
            if start.elapsed() > self.patience {
                return Err(Error::NotIdle(self.patience));
            }
            thread::yield_now();
        }
    }

    /// As UG1085, "Channel Disabled", has it.
    fn disable_paused(&mut self) {
        self.regs.write(Regs::CTRL2, 0);
        self.regs.write(Regs::ISR, ISR_PAUSED);
        self.regs.write(Regs::CTRL0, CTRL0_LISTS | CTRL0_CONTINUE);
        self.run = Run::Ending;
    }
}

impl<I: Io> Drop for Control<I> {
    fn drop(&mut self) {
        self.release_table();
    }
}
