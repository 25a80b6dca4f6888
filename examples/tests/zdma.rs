//! The driver of the ZDMA channels on the emulator.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    thread,
    time::{Duration, Instant},
};

use udmabuf::{
    Bidirectional, Buffer, Busy, CpuOwned, CpuParts, FromDevice, Shared, StartError, ToDevice,
    Uncached, WaitError,
    emulator::{Emulator, SyncFault},
};
use udmabuf_examples::zdma::{Channel, DESCRIPTOR_LEN, Error, Lists, Zdma};
use udmabuf_uio::emulator::{Emulated, Faults};

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(20);
const LINE: usize = 64;

type Sources = Vec<Buffer<CpuOwned, ToDevice>>;
type Destinations = Vec<Buffer<CpuOwned, FromDevice>>;
type Started = udmabuf::Started<Channel<Emulated>, Lists>;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % end
    }
}

/// A buffer that no cache is in front of.
fn table(emulator: &Emulator, len: usize) -> Buffer<Shared, Bidirectional, Uncached> {
    emulator.buffer_mapped(len).into_shared().unwrap()
}

/// A channel with a table for 32 parts.
fn channel(emulator: &Emulator, faults: &Faults) -> Zdma<Emulated> {
    let zdma = Zdma::emulated(emulator, faults).unwrap();
    zdma.set_table(table(emulator, 32 * DESCRIPTOR_LEN)).unwrap();
    zdma
}

/// A buffer of no more than `parts` parts, and at least `len` bytes.
fn parts(
    emulator: &Emulator,
    random: &mut Random,
    len: usize,
    parts: usize,
) -> Vec<Buffer<CpuOwned>> {
    let mut rest = emulator.buffer(len.next_multiple_of(LINE) + LINE * random.below(3));
    let mut all = Vec::new();
    while all.len() + 1 < parts && rest.len() > LINE {
        let lines = rest.len().div_ceil(LINE) - 1;
        let (part, after) = rest.split_at(LINE * (1 + random.below(lines))).unwrap();
        all.push(part);
        rest = after;
    }
    all.push(rest);
    all
}

/// Sources that are full of numbers, and destinations of zeros.
fn lists(emulator: &Emulator, random: &mut Random, len: usize) -> (Sources, Destinations) {
    let (from, to) = (1 + random.below(8), 1 + random.below(8));
    let mut sources = parts(emulator, random, len, from);
    let total: usize = sources.iter().map(Buffer::len).sum();
    let destinations = parts(emulator, random, total, to);
    let mut numbers = (1..=251).cycle();
    for byte in sources.iter_mut().flat_map(Buffer::as_mut_slice) {
        *byte = numbers.next().unwrap();
    }
    (
        sources.into_iter().map(Buffer::for_direction).collect(),
        destinations.into_iter().map(Buffer::for_direction).collect(),
    )
}

/// Sixteen parts of 1 KiB to one destination.
fn list(emulator: &Emulator) -> (Sources, Destinations) {
    let mut source = emulator.buffer(16 << 10);
    source.as_mut_slice().fill(0x5a);
    let sources = source.for_direction().into_chunks(1 << 10).unwrap();
    (sources, vec![emulator.buffer(16 << 10).for_direction()])
}

fn start(zdma: &Zdma<Emulated>, lists: (Sources, Destinations)) -> Started {
    zdma.copy_list(lists.0.into_device().unwrap(), lists.1.into_device().unwrap())
}

/// How many bytes have arrived. The rest of the destinations is 0, as it was.
fn arrived((sources, destinations): &(Sources, Destinations)) -> usize {
    let sent: Vec<u8> = sources.iter().flat_map(Buffer::as_slice).copied().collect();
    let received: Vec<u8> = destinations.iter().flat_map(Buffer::as_slice).copied().collect();
    let len = sent.iter().zip(&received).take_while(|(sent, received)| sent == received).count();
    assert!(received[len..].iter().all(|&byte| byte == 0), "beyond {len} bytes was written");
    len
}

fn total(lists: &(Sources, Destinations)) -> usize {
    lists.0.iter().map(Buffer::len).sum()
}

fn paused(zdma: &Zdma<Emulated>) {
    let give_up = Instant::now() + LONG;
    while !zdma.is_paused() {
        assert!(Instant::now() < give_up, "the list does not stop");
        thread::yield_now();
    }
}

/// Copies and lists of all shapes, some of them paused meanwhile, under every
/// seed of the adversary; and the table in memory of either kind.
#[test]
fn what_is_copied_arrives_and_nothing_else() {
    for seed in 0..20 {
        let random = &mut Random(seed);
        let mut emulator = Emulator::new().with_adversary_seed(seed);
        let zdma = if seed % 2 == 0 {
            channel(&emulator, &Faults::default())
        } else {
            emulator = emulator.coherent();
            let zdma = Zdma::emulated(&emulator, &Faults::default()).unwrap();
            zdma.set_table(emulator.buffer(512).into_shared().unwrap()).unwrap();
            zdma
        };
        for round in 0..6 {
            let len = 1 + random.below(6000);
            let is_paused = random.below(3) == 0;
            if is_paused {
                zdma.pause().unwrap();
            }
            let transfer = start(&zdma, lists(&emulator, random, len)).unwrap();
            if is_paused {
                // What has one part only is done.
                let _ = zdma.is_paused();
                zdma.resume().unwrap();
            }
            let lists = transfer.wait(LONG).unwrap();
            assert_eq!(arrived(&lists), total(&lists), "seed {seed}, list {round}");

            let mut source = emulator.buffer(len + 100);
            source.as_mut_slice().iter_mut().zip((1..=251).cycle()).for_each(|(b, n)| *b = n);
            let destination = emulator.buffer(len + 100).for_direction::<FromDevice>();
            let (first, at) = (random.below(100), random.below(100));
            let transfer = zdma.copy_range(
                source.for_direction().into_device().unwrap(),
                first..first + len,
                destination.into_device().unwrap(),
                at,
            );
            let (source, destination) = transfer.unwrap().wait(LONG).unwrap();
            let mut expected = vec![0; len + 100];
            expected[at..at + len].copy_from_slice(&source.as_slice()[first..first + len]);
            assert!(destination.as_slice() == expected, "seed {seed}, copy {round}");
        }
        assert_eq!(emulator.violations(), []);
        assert!(zdma.warnings().is_empty());
    }
}

#[test]
fn eight_channels_at_once() {
    let emulator = Emulator::new().with_adversary();
    let faults = Faults::default();
    faults.stall();
    let channels = [(); 8].map(|()| channel(&emulator, &faults));
    let started = channels.each_ref().map(|zdma| start(zdma, list(&emulator)).unwrap());
    faults.resume();
    for transfer in started {
        let lists = transfer.wait(LONG).unwrap();
        assert_eq!(arrived(&lists), 16 << 10);
    }
    assert_eq!(emulator.violations(), []);
}

#[test]
fn a_paused_list_goes_on_where_it_stopped() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let zdma = channel(&emulator, &faults);
    for _ in 0..10 {
        faults.stall();
        let transfer = start(&zdma, list(&emulator)).unwrap();
        zdma.pause().unwrap();
        faults.resume();
        paused(&zdma);
        let result = transfer.wait(SHORT);
        let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
        assert!(zdma.is_paused());
        zdma.resume().unwrap();
        let lists = transfer.wait(LONG).unwrap();
        assert_eq!(arrived(&lists), 16 << 10);
    }
}

/// It may have read ahead that it is to pause, and pauses though it is not to.
#[test]
fn a_pause_that_ends_at_any_time_stops_nothing() {
    let emulator = Emulator::new().with_adversary();
    let zdma = channel(&emulator, &Faults::default());
    let mut lists = list(&emulator);
    let mut random = Random(1);
    for _ in 0..100 {
        zdma.pause().unwrap();
        let transfer = start(&zdma, lists).unwrap();
        for _ in 0..random.below(16) {
            thread::yield_now();
        }
        zdma.resume().unwrap();
        lists = transfer.wait(LONG).unwrap();
    }
    assert_eq!(arrived(&lists), 16 << 10);
}

#[test]
fn a_paused_list_can_be_stopped_or_dropped() {
    let emulator = Emulator::new().with_adversary();
    let zdma = channel(&emulator, &Faults::default());
    zdma.pause().unwrap();
    for _ in 0..10 {
        let transfer = start(&zdma, list(&emulator)).unwrap();
        paused(&zdma);
        let lists = transfer.stop().unwrap();
        assert_eq!(arrived(&lists), 1 << 10, "one part, and no more");
        assert!(!zdma.is_paused());
        drop(start(&zdma, lists).unwrap());
        assert!(zdma.interrupts().is_ok(), "dropped, it is not stopped");
    }
    zdma.resume().unwrap();
    let lists = start(&zdma, list(&emulator)).unwrap().wait(LONG).unwrap();
    assert_eq!(arrived(&lists), 16 << 10);
    assert_eq!(emulator.violations(), []);
}

/// The channel is at rest after what it was at, and what is behind that stays.
#[test]
fn a_running_list_is_cut_short() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let zdma = channel(&emulator, &faults);
    faults.stall();
    let transfer = start(&zdma, list(&emulator)).unwrap();
    zdma.set_patience(Duration::ZERO);
    let result = transfer.stop();
    let Err(WaitError::Unknown { error: Error::NotIdle(_), transfer }) = result else {
        panic!("{result:?}");
    };
    // Nor is it told otherwise from now on.
    zdma.pause().unwrap();
    zdma.resume().unwrap();
    faults.resume();
    let result = transfer.wait(LONG);
    let Err(WaitError::Failed { error: Error::CutShort, buffers }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(arrived(&buffers), 1 << 10);
    zdma.set_patience(Duration::MAX);
    for _ in 0..20 {
        let lists = start(&zdma, list(&emulator)).unwrap().stop().unwrap();
        assert_eq!(arrived(&lists) % (1 << 10), 0, "a part was cut in two");
    }
    let lists = start(&zdma, buffers).unwrap().wait(LONG).unwrap();
    assert_eq!(arrived(&lists), 16 << 10);
}

#[test]
fn a_stalled_channel_times_out_and_keeps_what_cannot_be_stopped() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let zdma = channel(&emulator, &faults);
    faults.stall();
    let result = start(&zdma, list(&emulator)).unwrap().wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    faults.resume();
    let lists = transfer.wait(LONG).unwrap();
    assert_eq!(arrived(&lists), 16 << 10);

    // Memory that the channel may still read is not given free, nor reused.
    let is_shared = |addr| emulator.bus().read(addr, &mut [0; 4]).is_ok();
    let [first, second] = [(); 2].map(|()| table(&emulator, 4096));
    let addrs = [&first, &second].map(|table| table.dma_addr().to_u64());
    zdma.set_table(first).unwrap();
    zdma.set_table(second).unwrap();
    assert!(!is_shared(addrs[0]) && is_shared(addrs[1]), "its table is another one now");
    faults.stall();
    zdma.set_patience(SHORT);
    drop(start(&zdma, lists).unwrap());
    assert!(zdma.interrupts().is_err(), "an engine that could be running is free");
    let refused = zdma.set_table(table(&emulator, 4096)).unwrap_err();
    assert!(matches!(refused.error, StartError::Busy(Busy)), "its table was taken away");
    drop(zdma);
    assert!(is_shared(addrs[1]), "its table is free");
}

#[test]
fn a_lost_interrupt_delays_a_list_but_loses_nothing() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let zdma = channel(&emulator, &faults);
    faults.stall();
    faults.lose_interrupts(1);
    let transfer = start(&zdma, list(&emulator)).unwrap();
    faults.resume();
    let mut result = transfer.wait(SHORT);
    while let Err(WaitError::Timeout { transfer, .. }) = result {
        result = transfer.wait(SHORT);
    }
    assert_eq!(arrived(&result.unwrap()), 16 << 10);
}

#[test]
fn a_list_survives_a_sync_that_fails() {
    let emulator = Emulator::new().with_adversary();
    let zdma = channel(&emulator, &Faults::default());
    let (sources, destinations) = list(&emulator);
    let (sources, destinations) =
        (sources.into_device().unwrap(), destinations.into_device().unwrap());
    emulator.inject(SyncFault::all().for_cpu().times(1));
    let result = zdma.copy_list(sources, destinations).unwrap().wait(LONG);
    let Err(WaitError::Sync { transfer, .. }) = result else { panic!("{result:?}") };
    assert_eq!(arrived(&transfer.wait(LONG).unwrap()), 16 << 10);
}

#[test]
fn lists_are_awaited() {
    let emulator = Emulator::new().with_adversary();
    let zdma = channel(&emulator, &Faults::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = async {
        let mut lists = list(&emulator);
        for _ in 0..20 {
            lists = start(&zdma, lists).unwrap().await.unwrap();
            assert_eq!(arrived(&lists), 16 << 10);
        }
    };
    // Once for all rounds: it asks a last time at its end, and so finds one of them done.
    runtime.block_on(async { tokio::time::timeout(LONG, rounds).await }).unwrap();
    assert!(zdma.interrupts().unwrap() > 0, "no interrupt has woken it");
}

#[test]
fn what_is_refused_comes_back() {
    let emulator = Emulator::new();
    let zdma = Zdma::emulated(&emulator, &Faults::default()).unwrap();
    let refused = start(&zdma, list(&emulator)).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::NoTable)));
    let (sources, destinations) = refused.value;

    let other = Emulator::new();
    let refused = zdma.set_table(table(&other, 4096)).unwrap_err();
    assert!(matches!(refused.error, StartError::OtherBus { .. }));
    let narrow = Emulator::new().with_cache_line(16);
    let channel = Zdma::emulated(&narrow, &Faults::default()).unwrap();
    let (_, odd) = narrow.buffer_mapped::<Uncached>(64).split_at(16).unwrap();
    let refused = channel.set_table(odd.into_shared().unwrap()).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::TableMisaligned(_))));
    assert_eq!(refused.value.len(), 48);

    // 16 sources and a destination: one descriptor too many.
    zdma.set_table(table(&emulator, 16 * DESCRIPTOR_LEN)).unwrap();
    let refused = start(&zdma, (sources, destinations)).unwrap_err();
    let StartError::Refused(Error::TableTooSmall { needed, room }) = refused.error else {
        panic!("{refused}");
    };
    assert_eq!((needed, room), (17 * DESCRIPTOR_LEN, 16 * DESCRIPTOR_LEN));
    zdma.set_table(table(&emulator, 17 * DESCRIPTOR_LEN)).unwrap();
    let (sources, mut destinations) = start(&zdma, refused.value).unwrap().wait(LONG).unwrap();

    let (small, rest) = destinations.remove(0).split_at((16 << 10) - LINE).unwrap();
    let refused = start(&zdma, (sources, vec![small])).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::TooSmall { .. })));
    let refused = start(&zdma, (vec![], vec![rest])).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::Empty)));

    let source = || emulator.buffer(100).for_direction().into_device().unwrap();
    let destination = || emulator.buffer(100).for_direction().into_device().unwrap();
    for (range, at) in [(0..101, 0), (90..101, 0), (usize::MAX - 1..usize::MAX, 0), (0..1, 101)] {
        let refused = zdma.copy_range(source(), range, destination(), at).unwrap_err();
        let StartError::Refused(Error::Buffer(udmabuf::Error::OutOfRange { .. })) = refused.error
        else {
            panic!("{refused}");
        };
    }
    let refused = zdma.copy_range(source(), 0..100, destination(), 1).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::TooSmall { .. })));
    let refused = zdma.copy_range(source(), 5..5, destination(), 0).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::Empty)));
}

#[test]
fn a_channel_that_is_gone_is_not_at_rest() {
    let (emulator, faults) = (Emulator::new(), Faults::default());
    let zdma = channel(&emulator, &faults);
    zdma.set_patience(Duration::ZERO);
    faults.stall();
    let transfer = start(&zdma, list(&emulator)).unwrap();
    faults.unplug();
    let result = transfer.wait(LONG);
    let Err(WaitError::Unknown { error, transfer }) = result else { panic!("{result:?}") };
    assert!(matches!(error, Error::Uio(udmabuf_uio::Error::Removed { .. })), "{error}");
    let stopped = transfer.stop();
    let Err(WaitError::Unknown { error, .. }) = stopped else { panic!("{stopped:?}") };
    assert!(matches!(error, Error::NotIdle(_)), "{error}");
}
