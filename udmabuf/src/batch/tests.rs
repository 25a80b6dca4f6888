//! Batches on memory whose handovers take no system call, by the steps of a CPU that
//! records them, and by the counts that whoever finds the buffer would see.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
};

use udmabuf_sys::abi::Lent;

use crate::{
    Buffer, CpuParts, FromDevice, Parts, ToDevice,
    emulator::{CpuSide, Emulator, SyncFault},
    maintenance::{Cpu, Step, record},
    memory::{Direct, Memory},
    part::Part,
};

const LINE: usize = 64;
const PART: usize = 2 * LINE;
/// Parts of each buffer.
const PARTS: usize = 10;
/// Two whose lines the program maintains, one that needs a barrier; the last needs
/// a call.
const LINES: [bool; 4] = [true, true, false, false];
const CALL: usize = 3;

fn direct(has_lines: bool) -> Direct {
    if has_lines { Direct::Cache(Cpu::recording()) } else { Direct::Barrier }
}

struct Buffers {
    emulator: Emulator,
    parts: BTreeMap<usize, Buffer>,
    /// Where they start.
    starts: Vec<usize>,
    /// Of those that need no call.
    counts: Vec<&'static Lent>,
}

impl Buffers {
    fn new() -> Self {
        let emulator = Emulator::new();
        let (mut parts, mut starts, mut counts) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (number, has_lines) in LINES.into_iter().enumerate() {
            let mut buffer = emulator.buffer(PARTS * PART);
            starts.push(buffer.as_slice().as_ptr().addr());
            if number != CALL {
                counts.push(buffer.memory_mut().unwrap().set_direct(direct(has_lines)));
            }
            let chunks = buffer.into_chunks(PART).unwrap();
            parts
                .extend(chunks.into_iter().enumerate().map(|(i, part)| (number * PARTS + i, part)));
        }
        Self { emulator, parts, starts, counts }
    }

    fn take(&mut self, order: &[usize]) -> Vec<Buffer> {
        order.iter().map(|part| self.parts.remove(part).unwrap()).collect()
    }

    fn lines(&self, order: &[usize]) -> Vec<usize> {
        let own = order.iter().filter(|&part| LINES[part / PARTS]);
        own.flat_map(|part| {
            let start = self.starts[part / PARTS] + part % PARTS * PART;
            (start..start + PART).step_by(LINE)
        })
        .collect()
    }

    /// The part that a line is of.
    fn part(&self, line: usize) -> usize {
        let range = |start: usize| start..start + PARTS * PART;
        let buffer = self.starts.iter().position(|&start| range(start).contains(&line)).unwrap();
        buffer * PARTS + (line - self.starts[buffer]) / PART
    }
}

fn counted(counts: &[&Lent]) -> Vec<usize> {
    counts.iter().map(|lent| lent.parts.load(Relaxed) as usize).collect()
}

/// How many of these parts each buffer has that needs no call.
fn expected<'a>(parts: impl IntoIterator<Item = &'a usize>) -> Vec<usize> {
    let mut expected = vec![0; CALL];
    for part in parts.into_iter().filter(|&part| part / PARTS != CALL) {
        expected[part / PARTS] += 1;
    }
    expected
}

/// The steps of `act`, with what was counted before each.
fn steps<R>(counts: &[&'static Lent], act: impl FnOnce() -> R) -> (Vec<(Step, Vec<usize>)>, R) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (into, counts) = (seen.clone(), counts.to_vec());
    let result = record(move |step| into.borrow_mut().push((step, counted(&counts))), act);
    (seen.take(), result)
}

/// Some of all parts in some order, and where to cut that in two.
fn random(seed: u64) -> (Vec<usize>, usize) {
    let mut state = seed;
    let mut below = |bound: usize| {
        // A linear congruential generator, with the constants of Knuth's MMIX.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let mut order: Vec<usize> = (0..LINES.len() * PARTS).collect();
    // Few exchanges leave parts that follow each other.
    for _ in 0..below(order.len()) {
        order.swap(below(LINES.len() * PARTS), below(LINES.len() * PARTS));
    }
    order.rotate_left(below(LINES.len() * PARTS));
    order.truncate(below(LINES.len() * PARTS + 1));
    let cut = below(order.len() + 1);
    (order, cut)
}

#[test]
fn every_line_once_then_the_barrier_and_no_part_uncounted_at_the_device() {
    for seed in 0..2000 {
        let (order, cut) = random(seed);
        let mut all = Buffers::new();
        let (read, written) = order.split_at(cut);
        let for_device: Vec<_> =
            all.take(read).into_iter().map(Buffer::for_direction::<ToDevice>).collect();
        let from_device: Vec<_> =
            all.take(written).into_iter().map(Buffer::for_direction::<FromDevice>).collect();

        let (given, parts) = steps(&all.counts, || (for_device, from_device).into_device());
        let cleaned: Vec<_> = given
            .iter()
            .filter_map(|(step, _)| if let Step::Clean(line) = step { Some(*line) } else { None })
            .collect();
        assert_eq!(cleaned, all.lines(&order), "{order:?}");
        assert_eq!(counted(&all.counts), expected(&order), "{order:?}");
        if let Some((last, counted)) = given.last() {
            assert_eq!(*last, Step::Complete, "{order:?}");
            assert_eq!(counted[..2], expected(&order)[..2], "counted before the barrier");
        }

        // SAFETY: there is no device.
        let (taken, parts) = steps(&all.counts, || unsafe { parts.unwrap().into_cpu() });
        let mut left: BTreeSet<usize> = written.iter().copied().collect();
        let (mut dropped, mut is_ordered) = (Vec::new(), false);
        for (step, counted) in taken {
            // Until the barrier after its lines, a part is counted.
            let enough =
                counted.iter().zip(expected(&left)).take(2).all(|(is, least)| *is >= least);
            assert!(enough, "{step:?}: {counted:?} of {left:?} in {order:?}");
            match step {
                Step::Order => is_ordered = true,
                Step::CleanAndDrop(line) => {
                    assert!(is_ordered, "{order:?}");
                    dropped.push(line);
                }
                Step::Complete => dropped.iter().for_each(|&line| {
                    left.remove(&all.part(line));
                }),
                Step::Clean(_) => panic!("{step:?} on the way back"),
            }
        }
        assert_eq!(dropped, all.lines(written), "{order:?}");
        assert!(!left.iter().any(|part| LINES[part / PARTS]), "{left:?} without a barrier");
        assert_eq!(counted(&all.counts), [0; CALL], "{order:?}");
        drop(parts.unwrap());
    }
}

#[test]
fn of_a_batch_that_fails_nothing_is_counted() {
    for seed in 0..500 {
        let (order, _) = random(seed);
        let mut all = Buffers::new();
        all.emulator.inject(SyncFault::all().for_device());
        let parts = all.take(&order);
        let result = parts.into_device();
        let fails = order.iter().any(|part| part / PARTS == CALL);
        assert_eq!(result.is_err(), fails, "{order:?}");
        let expected = if fails { vec![0; CALL] } else { expected(&order) };
        assert_eq!(counted(&all.counts), expected, "{order:?}");
    }
}

#[test]
fn what_can_be_undone_of_a_batch_that_fails_is() {
    let mut all = Buffers::new();
    all.emulator.inject(SyncFault::all());
    let parts = all.take(&[0, PARTS, CALL * PARTS]);
    let counts = all.counts.clone();
    let (first, second) = (counts[0], all.starts[1]);
    // The first buffer is removed while the second is handed over.
    let remove = move |step| {
        if step == Step::Clean(second) {
            first.gone.store(1, Relaxed);
        }
    };
    let failed = record(remove, || parts.into_device()).unwrap_err();
    assert_eq!(failed.value.len(), 3);
    assert_eq!(first.gone.load(Relaxed), 1);
    assert_eq!(counted(&counts)[1..], [0, 0]);
}

#[test]
fn buffers_mapped_side_by_side_stay_two() {
    const EACH: usize = 5 * PART;
    for has_lines in [[true, true], [true, false], [false, true], [false, false]] {
        let emulator = Emulator::new();
        let mut both = [(); 2].map(|()| Memory::emulated(CpuSide::new(&emulator, EACH, true)));
        // No byte is accessed there.
        both[1].start = both[0].start.map_addr(|start| start.checked_add(EACH).unwrap());
        let starts = both.each_ref().map(|memory| memory.start.addr().get());
        let (mut counts, mut lines) = (Vec::new(), Vec::new());
        for ((memory, has_lines), start) in both.iter_mut().zip(has_lines).zip(starts) {
            counts.push(memory.set_direct(direct(has_lines)));
            lines.extend((start..start + EACH).step_by(LINE).filter(|_| has_lines));
        }
        let parts: Vec<Buffer<_, FromDevice>> = both
            .into_iter()
            .flat_map(|memory| Buffer::from_part(Part::whole(memory)).into_chunks(PART).unwrap())
            .collect();

        let (given, parts) = steps(&counts, || parts.into_device().unwrap());
        assert_eq!(counted(&counts), [5, 5], "{has_lines:?}");
        // SAFETY: there is no device.
        let (taken, parts) = steps(&counts, || unsafe { parts.into_cpu() }.unwrap());
        assert_eq!(counted(&counts), [0, 0], "{has_lines:?}");
        let seen = given.into_iter().chain(taken).filter_map(|(step, _)| match step {
            Step::Clean(line) | Step::CleanAndDrop(line) => Some(line),
            Step::Complete | Step::Order => None,
        });
        assert_eq!(seen.collect::<Vec<_>>(), lines.repeat(2), "{has_lines:?}");
        drop(parts);
    }
}
