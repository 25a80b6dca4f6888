//! The model against PG021, without the driver: offsets and bits are written
//! again here, so that the two cannot share a misreading.

use std::{
    thread,
    time::{Duration, Instant},
};

use udmabuf::{Bidirectional, Buffer, FromDevice, Shared, ToDevice, Uncached, emulator::Emulator};
use udmabuf_examples::axidma::{Build, Controls, Faults, Mode, Model, Side};
use udmabuf_uio::{
    Interrupt, ReadWrite, Register, Registers,
    emulator::{Emulated, emulate},
};

use crate::bench::{BUILD, LONG, SHORT};

udmabuf_uio::block! {
    struct Words: 0x60 bytes, align 4 { 0 => WORDS: [ReadWrite<u32>; 24] }
}

const MM2S: usize = 0x00;
const S2MM: usize = 0x30;
const DMACR: usize = 0x00;
const DMASR: usize = 0x04;
const CURDESC: usize = 0x08;
const TAILDESC: usize = 0x10;
const TAILDESC_MSB: usize = 0x14;
const ADDRESS: usize = 0x18;
const LENGTH: usize = 0x28;

const RS: u32 = 1;
const RESET: u32 = 1 << 2;
const CYCLIC: u32 = 1 << 4;
const IOC: u32 = 1 << 12;
const DLY: u32 = 1 << 13;
const ERR: u32 = 1 << 14;
const ENABLES: u32 = IOC | DLY | ERR;
const HALTED: u32 = 1;
const IDLE: u32 = 1 << 1;
const SG_INCLUDED: u32 = 1 << 3;

struct Core {
    registers: Registers<Words, Emulated>,
    interrupt: Interrupt,
    controls: Controls,
    emulator: Emulator,
}

impl Core {
    fn new(mode: Mode) -> Self {
        Self::built(BUILD, mode)
    }

    fn built(build: Build, mode: Mode) -> Self {
        let (emulator, controls) = (Emulator::new(), Controls::default());
        let model = Model::new(emulator.bus(), build, mode, controls.clone());
        let (registers, interrupt) = emulate(model).unwrap();
        Self { registers, interrupt, controls, emulator }
    }

    fn register(offset: usize) -> Register<Words, u32, ReadWrite> {
        Words::WORDS.get(offset / 4).unwrap()
    }

    fn read(&self, offset: usize) -> u32 {
        self.registers.read(Self::register(offset))
    }

    fn write(&self, offset: usize, value: u32) {
        self.registers.write(Self::register(offset), value);
    }

    /// Waits for these bits of a register.
    fn until(&self, offset: usize, bits: u32, values: u32) {
        let deadline = Instant::now() + LONG;
        while self.read(offset) & bits != values {
            assert!(Instant::now() < deadline, "{offset:#x} is {:#x}", self.read(offset));
            thread::yield_now();
        }
    }

    fn run(&self, channel: usize, control: u32) {
        self.write(channel + DMACR, control | RS | 1 << 16);
        self.until(channel + DMASR, HALTED, 0);
    }

    /// Whether the interrupt fires before this is over.
    fn fires(&mut self, within: Duration) -> bool {
        self.interrupt.wait(Instant::now() + within).unwrap() > 0
    }
}

/// Descriptors for MM2S that send the same 64 bytes each as a packet.
struct Chain {
    memory: Buffer<Shared, Bidirectional, Uncached>,
    data: u32,
}

impl Chain {
    fn new(core: &Core, count: usize) -> Self {
        let data = core.emulator.buffer(64).for_direction::<ToDevice>().into_device().unwrap();
        let data = data.dma_addr().to_u32().unwrap();
        let memory = core.emulator.buffer_mapped::<Uncached>(64 * count).into_shared().unwrap();
        let mut chain = Self { memory, data };
        (0..count).for_each(|index| chain.describe(index, (index + 1) % count));
        chain
    }

    fn describe(&mut self, index: usize, next: usize) {
        let next = self.at(next);
        for (offset, word) in [(0x00, next), (0x08, self.data), (0x18, 0x0c00_0000 | 64), (0x1c, 0)]
        {
            self.memory.write(64 * index + offset, word).unwrap();
        }
    }

    fn at(&self, index: usize) -> u32 {
        self.memory.dma_addr().to_u32().unwrap() + 64 * u32::try_from(index).unwrap()
    }

    fn status(&self, index: usize) -> u32 {
        self.memory.read(64 * index + 0x1c).unwrap()
    }
}

#[test]
fn reset_values() {
    for (mode, included) in [(Mode::Direct, 0), (Mode::ScatterGather, SG_INCLUDED)] {
        let core = Core::new(mode);
        for channel in [MM2S, S2MM] {
            assert_eq!(core.read(channel + DMACR), 0x0001_0002);
            assert_eq!(core.read(channel + DMASR), 0x0001_0000 | HALTED | included);
            assert_eq!(core.read(channel + CURDESC), 0);
            assert_eq!(core.read(channel + LENGTH), 0);
        }
    }
}

#[test]
fn a_reset_by_one_channel_is_for_both() {
    let core = Core::new(Mode::ScatterGather);
    for channel in [MM2S, S2MM] {
        core.write(channel + CURDESC, 0x1000);
        core.run(channel, ENABLES);
    }
    core.write(S2MM + DMACR, RESET);
    core.until(S2MM + DMACR, RESET, 0);
    for channel in [MM2S, S2MM] {
        assert_eq!(core.read(channel + DMACR), 0x0001_0002);
        assert_eq!(core.read(channel + DMASR) & HALTED, HALTED);
        assert_eq!(core.read(channel + CURDESC), 0);
    }
}

#[test]
fn curdesc_can_be_written_only_while_it_is_halted() {
    let core = Core::new(Mode::ScatterGather);
    core.write(CURDESC, 0x1234_567f);
    assert_eq!(core.read(CURDESC), 0x1234_5640, "the low six bits are reserved");
    core.run(MM2S, 0);
    core.write(CURDESC, 0x8000);
    assert_eq!(core.read(CURDESC), 0x1234_5640);
    core.write(DMACR, 0);
    core.until(DMASR, HALTED, HALTED);
    core.write(CURDESC, 0x8000);
    assert_eq!(core.read(CURDESC), 0x8000);
}

#[test]
fn a_tail_starts_nothing_while_it_is_halted_and_the_next_one_goes_on() {
    let core = Core::new(Mode::ScatterGather);
    let chain = Chain::new(&core, 4);
    core.write(CURDESC, chain.at(0));
    core.write(TAILDESC, chain.at(1));
    core.run(MM2S, 0);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(chain.status(0), 0);
    core.write(TAILDESC, chain.at(1));
    core.until(DMASR, IDLE, IDLE);
    assert_eq!([0, 1, 2].map(|index| chain.status(index)), [0x8000_0040, 0x8000_0040, 0]);
    core.write(TAILDESC, chain.at(3));
    core.until(CURDESC, u32::MAX, chain.at(3));
    core.until(DMASR, IDLE, IDLE);
    assert_eq!(chain.status(3), 0x8000_0040);
}

#[test]
fn with_64_address_bits_the_upper_half_of_the_tail_starts() {
    let core = Core::built(Build { addr_bits: 40, ..BUILD }, Mode::ScatterGather);
    let chain = Chain::new(&core, 2);
    core.write(CURDESC, chain.at(0));
    core.run(MM2S, 0);
    core.write(TAILDESC, chain.at(0));
    thread::sleep(Duration::from_millis(5));
    assert_eq!(chain.status(0), 0);
    core.write(TAILDESC_MSB, 0);
    core.until(DMASR, IDLE, IDLE);
    assert_eq!(chain.status(0), 0x8000_0040);
}

#[test]
fn a_complete_descriptor_is_stale_but_in_cyclic_mode() {
    let core = Core::new(Mode::ScatterGather);
    let mut chain = Chain::new(&core, 2);
    chain.memory.write(0x1c, 0x8000_0000_u32).unwrap();
    core.write(CURDESC, chain.at(0));
    core.run(MM2S, 0);
    core.write(TAILDESC, chain.at(1));
    core.until(DMASR, HALTED, HALTED);
    assert_eq!(core.read(DMASR) & 0x7f0, 1 << 8, "SGIntErr");
    assert_eq!(core.read(DMACR) & RS, 0);
    // Only a reset clears it.
    core.write(DMASR, u32::MAX);
    core.write(DMACR, RS);
    assert_eq!(core.read(DMASR) & 0x7f0, 1 << 8);
    assert_eq!(core.read(DMACR) & RS, 0);

    core.write(DMACR, RESET);
    core.until(DMACR, RESET, 0);
    core.write(CURDESC, chain.at(0));
    core.run(MM2S, CYCLIC);
    core.write(TAILDESC, 0x50); // no descriptor's
    let deadline = Instant::now() + LONG;
    while chain.status(1) >> 31 == 0 {
        assert!(Instant::now() < deadline, "the second is not processed");
    }
    // Nobody receives: the 64 times that fill the stream end where they began.
    core.until(CURDESC, u32::MAX, chain.at(0));
    assert_eq!(core.read(DMASR) & (0x7f0 | IDLE), 0);
}

#[test]
fn a_descriptor_without_a_length_is_an_internal_error() {
    let core = Core::new(Mode::ScatterGather);
    let mut chain = Chain::new(&core, 2);
    chain.memory.write(0x18, 0x0c00_0000_u32).unwrap();
    core.write(CURDESC, chain.at(0));
    core.run(MM2S, 0);
    core.write(TAILDESC, chain.at(1));
    core.until(DMASR, HALTED, HALTED);
    assert_eq!(core.read(DMASR) & 0x7f0, 1 << 4, "DMAIntErr");
    assert_eq!(chain.status(0) >> 28 & 1, 1);
    assert_eq!(core.read(CURDESC), chain.at(0));
}

#[test]
fn bus_errors_are_told_apart() {
    let core = Core::new(Mode::ScatterGather);
    let mut chain = Chain::new(&core, 2);
    let cpus = core.emulator.buffer(64);
    let cpus = cpus.for_direction::<FromDevice>().into_device().unwrap();
    let against_direction = cpus.dma_addr().to_u32().unwrap();
    let nowhere = 0x1000;
    for (descriptor, data, error) in [
        (chain.at(0), against_direction, 1 << 5),
        (chain.at(0), nowhere, 1 << 6),
        (against_direction, 0, 1 << 9),
        (nowhere, 0, 1 << 10),
    ] {
        chain.describe(0, 1);
        chain.memory.write(0x08, data).unwrap();
        core.write(CURDESC, descriptor);
        core.run(MM2S, 0);
        core.write(TAILDESC, chain.at(0));
        core.until(DMASR, HALTED, HALTED);
        assert_eq!(core.read(DMASR) & 0x7f0, error);
        assert_eq!(core.read(DMASR) & ERR, ERR);
        core.write(DMACR, RESET);
        core.until(DMACR, RESET, 0);
    }
}

#[test]
fn the_interrupt_counts_packets_and_waits_for_late_ones() {
    let mut core = Core::new(Mode::ScatterGather);
    let chain = Chain::new(&core, 8);
    core.write(CURDESC, chain.at(0));
    core.write(DMACR, RS | ENABLES | 3 << 16);
    core.until(DMASR, HALTED, 0);
    core.write(TAILDESC, chain.at(1));
    core.until(DMASR, IDLE, IDLE);
    assert_eq!(core.read(DMASR) & ENABLES, 0, "two of three");
    assert_eq!(core.read(DMASR) >> 16 & 0xff, 1);
    assert!(!core.fires(SHORT));
    core.write(TAILDESC, chain.at(2));
    assert!(core.fires(LONG));
    core.until(DMASR, ENABLES, IOC);
    core.write(DMASR, IOC);
    assert_eq!(core.read(DMASR) & ENABLES, 0);

    // A delay, for one packet of three; a threshold of 0 changes nothing.
    core.write(DMACR, RS | ENABLES | 5 << 24);
    assert_eq!(core.read(DMACR) >> 16 & 0xff, 3);
    core.write(TAILDESC, chain.at(3));
    assert!(core.fires(LONG));
    assert_eq!(core.read(DMASR) & ENABLES, DLY);
}

#[test]
fn the_length_starts_a_direct_transfer_and_tells_what_came() {
    let core = Core::new(Mode::Direct);
    let mut source = core.emulator.buffer(100).for_direction::<ToDevice>();
    source.as_mut_slice().fill(9);
    let source = source.into_device().unwrap();
    let sink = core.emulator.buffer(200).for_direction::<FromDevice>().into_device().unwrap();
    core.write(MM2S + LENGTH, 100);
    for (channel, addr) in [(MM2S, source.dma_addr()), (S2MM, sink.dma_addr())] {
        core.run(channel, 0);
        core.write(channel + ADDRESS, addr.to_u32().unwrap());
    }
    thread::sleep(Duration::from_millis(5));
    assert_eq!(core.read(DMASR) & IOC, 0, "it was halted when the length was written");
    core.write(S2MM + LENGTH, 200);
    core.write(MM2S + LENGTH, 100);
    core.until(S2MM + DMASR, IDLE | IOC, IDLE | IOC);
    core.until(MM2S + DMASR, IDLE | IOC, IDLE | IOC);
    assert_eq!(core.read(S2MM + LENGTH), 100);
    // It halts, though no transfer is there; one that waits for data does not.
    core.write(MM2S + DMACR, 0);
    core.until(MM2S + DMASR, HALTED, HALTED);
    core.write(S2MM + LENGTH, 200);
    core.write(S2MM + DMACR, 0);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(core.read(S2MM + DMASR) & HALTED, 0);
    assert_eq!(core.controls.undefined(), [""; 0]);
}

#[test]
fn the_length_has_no_more_bits_than_were_built() {
    for bits in [8, 14, 26] {
        let core = Core::built(Build { length_bits: bits, ..BUILD }, Mode::Direct);
        core.write(LENGTH, u32::MAX);
        assert_eq!(core.read(LENGTH), (1 << bits) - 1);
    }
}

#[test]
fn what_is_undefined_is_noted() {
    let build = Build { realigns: false, data_bytes: 8, length_bits: 10, ..BUILD };
    let notes = |change: fn(&mut Chain)| {
        let core = Core::built(build, Mode::ScatterGather);
        let mut chain = Chain::new(&core, 2);
        change(&mut chain);
        core.write(CURDESC, chain.at(0));
        core.run(MM2S, 0);
        core.write(TAILDESC, chain.at(0));
        core.until(DMASR, IDLE, IDLE);
        core.controls.undefined().concat()
    };
    assert_eq!(notes(|_| {}), "");
    assert!(notes(|chain| chain.memory.write(0x00, 0x41_u32).unwrap()).contains("multiple of 64"));
    assert!(notes(|chain| chain.memory.write(0x18, 0x0c00_0404_u32).unwrap()).contains("wider"));
    assert!(
        notes(|chain| {
            let data = chain.data + 4;
            chain.memory.write(0x08, data).unwrap();
            chain.memory.write(0x18, 0x0c00_0008_u32).unwrap();
        })
        .contains("an address that is not aligned")
    );
    assert!(notes(|chain| chain.memory.write(0x18, 0x0400_0040_u32).unwrap()).contains("starts"));
    assert!(notes(|chain| chain.memory.write(0x18, 0x0800_003c_u32).unwrap()).contains("a length"));
}

#[test]
fn a_fault_is_of_its_channel() {
    let core = Core::new(Mode::ScatterGather);
    let chain = Chain::new(&core, 2);
    core.controls.inject(Side::S2mm, Faults::DMA_SLAVE);
    core.write(CURDESC, chain.at(0));
    core.run(MM2S, 0);
    core.write(TAILDESC, chain.at(1));
    core.until(DMASR, IDLE, IDLE);
    assert_eq!(core.read(S2MM + DMASR) & 0x7f0, 0);
}
