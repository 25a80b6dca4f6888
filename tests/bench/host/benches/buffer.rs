//! Views, ranges and splits of emulated buffers: what costs no system call and
//! no cache maintenance anywhere, so that this machine stands for others.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use udmabuf::emulator::Emulator;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

const LEN: usize = 1 << 20;
const WORDS: usize = LEN / size_of::<u32>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: U32,
    len: U32,
}

fn views(criterion: &mut Criterion) {
    let buffer = Emulator::new().buffer(LEN);
    criterion.bench_function("view of a header", |bench| {
        bench.iter(|| buffer.view::<Header>(black_box(64)).map(|header| header.len.get()));
    });
    criterion.bench_function("sum of 1 MiB of words, typed slice", |bench| {
        bench.iter(|| {
            let words = buffer.slice_of::<u32>(0, black_box(WORDS));
            words.map(|words| words.iter().fold(0, |sum: u32, word| sum.wrapping_add(*word)))
        });
    });
    let words = vec![0_u32; WORDS];
    criterion.bench_function("sum of 1 MiB of words, a Vec", |bench| {
        bench.iter(|| black_box(&words).iter().fold(0, |sum: u32, word| sum.wrapping_add(*word)));
    });
}

fn ranges(criterion: &mut Criterion) {
    let Ok(buffer) = Emulator::new().buffer(LEN).into_device() else {
        return;
    };
    criterion.bench_function("address of a range", |bench| {
        bench.iter(|| buffer.dma_addr_of(black_box(4096..8192)));
    });
}

fn splits(criterion: &mut Criterion) {
    let emulator = Emulator::new();
    let mut held = Some(emulator.buffer(LEN));
    criterion.bench_function("split and join", |bench| {
        bench.iter(|| {
            if let Some(buffer) = held.take() {
                held = buffer.split_at(black_box(4096)).ok().and_then(|(a, b)| a.join(b).ok());
            }
        });
        assert!(held.is_some(), "a part was lost");
    });
    criterion.bench_function("1 MiB into 256 parts", |bench| {
        bench.iter_batched(
            || emulator.buffer(LEN),
            |buffer| buffer.into_chunks(black_box(4096)),
            criterion::BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, views, ranges, splits);
criterion_main!(benches);
