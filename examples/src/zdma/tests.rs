//! What needs the driver's inside: channels that somebody else has written.

use std::sync::atomic::{AtomicU32, Ordering};

use udmabuf::{Uncached, WaitError};
use udmabuf_uio::emulator::{Device, emulate};

use super::{
    model::Model,
    registers::{Address, CTRL0_LISTS, CTRL2_ENABLE, ISR_DONE, ISR_PAUSED, STATUS_STATE, Simple},
    *,
};

const LONG: Duration = Duration::from_secs(30);

fn open(bus: Bus, device: impl Device) -> Zdma<Emulated> {
    let (registers, interrupt) = emulate(device).unwrap();
    Zdma::new(registers, interrupt, Some(bus)).unwrap()
}

fn pair(emulator: &Emulator) -> Pair {
    let [source, destination] = [(); 2].map(|()| emulator.buffer(1000));
    (
        source.for_direction().into_device().unwrap(),
        destination.for_direction().into_device().unwrap(),
    )
}

/// A channel with bits of its own in the interrupt status, from the next
/// transfer's end on.
struct Faulty(Model, Arc<AtomicU32>, u32);

impl Device for Faulty {
    fn read(&mut self, offset: usize) -> u64 {
        self.0.read(offset) | if offset == Regs::ISR.offset() { u64::from(self.2) } else { 0 }
    }
    fn write(&mut self, offset: usize, value: u64) {
        if offset == Regs::ISR.offset() {
            self.2 = 0;
        }
        self.0.write(offset, value);
    }
    fn step(&mut self) -> bool {
        let more = self.0.step();
        if self.0.read(Regs::ISR.offset()) & u64::from(ISR_DONE) != 0 {
            self.2 = self.1.load(Ordering::Relaxed);
        }
        more
    }
    fn interrupt(&self) -> bool {
        self.0.interrupt()
    }
}

/// The bits are those of UG1087, register `ZDMA_CH_ISR`.
#[test]
fn every_fault_has_its_name_and_ends_what_it_should() {
    let emulator = Emulator::new();
    let bits = Arc::new(AtomicU32::new(0));
    let device = Faulty(Model::new(emulator.bus()), bits.clone(), 0);
    let zdma = open(emulator.bus(), device);
    for (bit, fault, is_fatal) in [
        (0, Fault::Register, true),
        (3, Fault::ByteCount, false),
        (4, Fault::SourceCount, false),
        (5, Fault::DestinationCount, false),
        (6, Fault::SourceDescriptor, true),
        (7, Fault::DestinationDescriptor, true),
        (8, Fault::Read, true),
        (9, Fault::Write, true),
    ] {
        bits.store(1 << bit, Ordering::Relaxed);
        let (source, destination) = pair(&emulator);
        let result = zdma.copy(source, destination).unwrap().wait(LONG);
        match result {
            Err(WaitError::Failed { error: Error::Faults(faults), .. }) => {
                assert!(is_fatal, "{fault} is not");
                assert_eq!(faults.iter().collect::<Vec<_>>(), [fault]);
                assert_eq!(faults.to_string(), fault.to_string());
            }
            result => {
                result.unwrap();
                assert!(!is_fatal && zdma.warnings().contains(fault), "{fault}");
            }
        }
    }
    assert_eq!(zdma.warnings().iter().count(), 3);
}

/// A channel that is sent astray reports it, gives the buffers back, and works on.
#[test]
fn what_the_bus_refuses_is_told_apart() {
    let (emulator, stall) = (Emulator::new(), DeviceFaults::default());
    let zdma = Zdma::emulated(&emulator, &stall).unwrap();
    zdma.set_table(emulator.buffer_mapped::<Uncached>(4096).into_shared().unwrap()).unwrap();
    let nowhere = 0;
    for (register, value, expected) in [
        (Regs::SOURCE.register(Simple::ADDR_LOW), Some(nowhere), Fault::Read),
        (Regs::DESTINATION.register(Simple::ADDR_LOW), Some(nowhere), Fault::Write),
        (Regs::SOURCE_START.register(Address::LOW), Some(nowhere), Fault::SourceDescriptor),
        (Regs::SOURCE_START.register(Address::LOW), None, Fault::SourceDescriptor),
        (
            Regs::DESTINATION_START.register(Address::LOW),
            Some(nowhere),
            Fault::DestinationDescriptor,
        ),
        (Regs::DESTINATION_START.register(Address::LOW), None, Fault::DestinationDescriptor),
    ] {
        stall.stall();
        let go_astray = |channel: &Channel<Emulated>| {
            let control = channel.control();
            // Without a value: some words further on, not aligned.
            let value = value.unwrap_or_else(|| control.registers().read(register) + 8);
            control.registers().write(register, value);
        };
        let is_list = matches!(expected, Fault::SourceDescriptor | Fault::DestinationDescriptor);
        let (source, destination) = pair(&emulator);
        let error = if is_list {
            let lists = (vec![source], vec![destination]);
            let transfer = zdma.slot.start(lists, |channel, (sources, destinations)| {
                let (sources, destinations) = list::parts(sources, destinations)?;
                channel.control().copy_list(&sources, &destinations)?;
                go_astray(channel);
                Ok(())
            });
            stall.resume();
            match transfer.unwrap().wait(LONG) {
                Err(WaitError::Failed { error, .. }) => error,
                result => panic!("{expected}: {result:?}"),
            }
        } else {
            let transfer = zdma.slot.start((source, destination), |channel, pair| {
                let [source, destination] = list::range(&pair.0, 0..1000, &pair.1, 0)?;
                channel.control().copy(source, destination)?;
                go_astray(channel);
                Ok(())
            });
            stall.resume();
            match transfer.unwrap().wait(LONG) {
                Err(WaitError::Failed { error, .. }) => error,
                result => panic!("{expected}: {result:?}"),
            }
        };
        let Error::Faults(faults) = error else { panic!("{error}") };
        assert_eq!(faults.iter().collect::<Vec<_>>(), [expected]);
        let (source, destination) = pair(&emulator);
        zdma.copy(source, destination).unwrap().wait(LONG).unwrap();
    }
}

/// To its end, though nobody waits for it, or asks how it is.
#[test]
fn a_list_that_is_resumed_goes_on() {
    let emulator = Emulator::new();
    let zdma = Zdma::emulated(&emulator, &DeviceFaults::default()).unwrap();
    zdma.set_table(emulator.buffer_mapped::<Uncached>(4096).into_shared().unwrap()).unwrap();
    let sources = emulator.buffer(1 << 13).for_direction().into_chunks(1 << 10).unwrap();
    let sources = sources.into_iter().map(|part| part.into_device().unwrap()).collect();
    let destination = emulator.buffer(1 << 13).for_direction().into_device().unwrap();
    zdma.pause().unwrap();
    let transfer = zdma.copy_list(sources, vec![destination]).unwrap();
    let give_up = Instant::now() + LONG;
    let until = |bit| {
        while lock(&zdma.control).registers().read(Regs::ISR) & bit == 0 {
            assert!(Instant::now() < give_up, "no interrupt {bit:#x}");
            std::thread::yield_now();
        }
    };
    until(ISR_PAUSED);
    zdma.resume().unwrap();
    until(ISR_DONE);
    transfer.wait(LONG).unwrap();
}

/// A channel whose interrupt line is up, whatever is cleared.
struct Stormy(Model);

impl Device for Stormy {
    fn read(&mut self, offset: usize) -> u64 {
        self.0.read(offset)
    }
    fn write(&mut self, offset: usize, value: u64) {
        self.0.write(offset, value);
    }
    fn step(&mut self) -> bool {
        self.0.step()
    }
    fn interrupt(&self) -> bool {
        true
    }
}

#[test]
fn a_storm_of_interrupts_neither_ends_a_transfer_nor_hangs_it() {
    let (emulator, stall) = (Emulator::new(), DeviceFaults::default());
    let device = Stormy(Model::new(emulator.bus()));
    let (registers, interrupt) = emulate_with(device, &stall).unwrap();
    let zdma = Zdma::new(registers, interrupt, Some(emulator.bus())).unwrap();
    stall.stall();
    let (source, destination) = pair(&emulator);
    let transfer = zdma.copy(source, destination).unwrap();
    let result = transfer.wait(Duration::from_millis(20));
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    stall.resume();
    transfer.wait(LONG).unwrap();
    assert!(zdma.interrupts().unwrap() > 1, "there was no storm");
    let (source, destination) = pair(&emulator);
    zdma.copy(source, destination).unwrap().wait(LONG).unwrap();
    assert_eq!(emulator.violations(), []);
}

/// As a program that died has left it: running, and with a list that is paused.
#[test]
fn whatever_a_channel_is_doing_it_is_stopped_first() {
    let emulator = Emulator::new();
    let left: [fn(&Emulator, &mut Model); 2] = [
        |emulator, model| {
            let (source, destination) = pair(emulator);
            for (at, addr) in
                [(Regs::SOURCE, source.dma_addr()), (Regs::DESTINATION, destination.dma_addr())]
            {
                model.write(at.register(Simple::ADDR_LOW).offset(), addr.to_u64());
                model.write(at.register(Simple::SIZE).offset(), addr.len());
            }
        },
        |emulator, model| {
            let mut table = emulator.buffer_mapped::<Uncached>(64).into_shared().unwrap();
            let (source, destination) = pair(emulator);
            table.write(0, source.dma_addr().to_u64()).unwrap();
            table.write(8, 1000_u32).unwrap();
            table.write(12, 1_u32 << 3).unwrap();
            table.write(16, destination.dma_addr().to_u64()).unwrap();
            table.write(24, 1000_u32).unwrap();
            let start = table.dma_addr().to_u64();
            model.write(Regs::SOURCE_START.register(Address::LOW).offset(), start);
            model.write(Regs::DESTINATION_START.register(Address::LOW).offset(), start + 16);
            model.write(Regs::CTRL0.offset(), CTRL0_LISTS.into());
        },
    ];
    for leave in left {
        for steps in [0, 1, 2, 100] {
            let mut model = Model::new(emulator.bus());
            leave(&emulator, &mut model);
            model.write(Regs::CTRL2.offset(), CTRL2_ENABLE.into());
            for _ in 0..=steps {
                model.step();
            }
            let zdma = open(emulator.bus(), model);
            let state = lock(&zdma.control).registers().read(Regs::STATUS) & STATUS_STATE;
            assert_eq!(state, 0, "after {steps} steps");
            let (source, destination) = pair(&emulator);
            zdma.copy(source, destination).unwrap().wait(LONG).unwrap();
        }
    }
    assert_eq!(emulator.violations(), []);
}
