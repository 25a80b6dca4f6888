//! What a buffer costs: opening it, mapping it, and the CPU's access to it.
#![allow(unsafe_code, reason = "the yardstick is a raw pointer")]

use std::{fs::File, hint::black_box, os::fd::AsFd};

use anyhow::{Result, ensure};
use udmabuf::{Buffer, CreateOptions, OpenOptions};
use udmabuf_sys::{ioctl, map::Mapping};

use crate::{
    KIB, MIB,
    meter::{X, cost, row, row_of, sizes},
};

const PAGE: usize = 4 * KIB;
const WORDS: usize = MIB / size_of::<u32>();
/// So much is mapped at most; more costs only time.
const MAPPED: usize = 64 * MIB;

/// Creates and deletes a buffer.
pub(crate) fn creation() -> Result<()> {
    let size = 64 * KIB;
    let created = cost(|| {
        CreateOptions::new("bench", size as u64).create()?.delete()?;
        anyhow::Ok(())
    })?;
    row("create and delete a buffer", X::Bytes(size), created);
    Ok(())
}

/// Opens and closes the buffer.
pub(crate) fn opening(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let len = Buffer::open(name)?.len();
    let opened = cost(|| Buffer::open(name).map(drop))?;
    row(&title("open, claim, map, close"), X::Bytes(len), opened);
    Ok(())
}

/// Maps parts of the buffer of different sizes.
pub(crate) fn mappings(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let len = Buffer::open(name)?.len();
    let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
    ioctl::claim(file.as_fd(), false)?;
    // As the yardstick has it: used beside, so that the upper page tables are there.
    let whole = Mapping::new(file.as_fd(), len)?;
    // SAFETY: its first byte, to which nobody has a reference.
    unsafe { whole.start().write_volatile(1) };
    for size in sizes(64 * KIB, len.min(MAPPED)) {
        let cost = cost(|| {
            let mapping = Mapping::new(file.as_fd(), size)?;
            let start = mapping.start();
            let mut page = 0;
            while page < size {
                // SAFETY: inside the mapping.
                let byte = unsafe { start.add(page) };
                // SAFETY: as above, and nobody else has a reference to it.
                unsafe { byte.write_volatile(1) };
                page += PAGE;
            }
            anyhow::Ok(())
        })?;
        row(&title("mmap, touch every page, munmap"), X::Bytes(size), cost);
        row(
            &title("each page: mmap, touch, munmap"),
            X::Bytes(size),
            cost * PAGE as f64 / size as f64,
        );
    }
    Ok(())
}

fn words() -> Vec<u32> {
    (0..).map(|i: u32| i.wrapping_mul(2_654_435_761)).take(WORDS).collect()
}

/// Copies into and out of a cached mapping.
pub(crate) fn copies(buffer: &mut Buffer, title: &dyn Fn(&str) -> String) -> Result<()> {
    let words = words();
    buffer.as_mut_slice()[..MIB].fill(0);
    let into = cost(|| {
        buffer.slice_of_mut::<u32>(0, WORDS)?.copy_from_slice(black_box(&words));
        anyhow::Ok(())
    })?;
    let mut back = vec![0; WORDS];
    let out_of = cost(|| {
        black_box(&mut back).copy_from_slice(buffer.slice_of(0, WORDS)?);
        anyhow::Ok(())
    })?;
    ensure!(back == words, "wrong bytes");
    row(&title("memcpy in"), X::Bytes(MIB), into);
    row(&title("memcpy out"), X::Bytes(MIB), out_of);
    Ok(())
}

/// Copies into and out of a mapping without cache.
pub(crate) fn uncached_copies(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let mut buffer = match OpenOptions::new().uncached().open(name) {
        // Not of a coherent device's buffer.
        Err(udmabuf::Error::Unsupported { .. }) => return Ok(()),
        opened => opened?,
    };
    let bytes: Vec<u8> = words().iter().flat_map(|word| word.to_ne_bytes()).collect();
    buffer.fill(0..MIB, 0)?;
    let into = cost(|| buffer.copy_from(0, black_box(&bytes)))?;
    let mut back = vec![0; MIB];
    let out_of = cost(|| buffer.copy_to(0, black_box(&mut back)))?;
    ensure!(back == bytes, "wrong bytes");
    row(&title("copy in, uncached mapping"), X::Bytes(MIB), into);
    row(&title("copy out, uncached mapping"), X::Bytes(MIB), out_of);
    Ok(())
}

/// Adds up words through a typed slice, and through a raw pointer by the same
/// compiler.
pub(crate) fn views(buffer: &mut Buffer, title: &dyn Fn(&str) -> String) -> Result<()> {
    let words = words();
    let expected = words.iter().fold(0, |sum: u32, word| sum.wrapping_add(*word));
    buffer.slice_of_mut::<u32>(0, WORDS)?.copy_from_slice(&words);

    let title = title("sum of 32-bit words");
    let mut sum = 0;
    let view = cost(|| {
        let words = buffer.slice_of::<u32>(0, WORDS)?;
        sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(*word));
        anyhow::Ok(())
    })?;
    ensure!(sum == expected, "wrong sum");
    row(&title, X::Bytes(MIB), view);

    let start = buffer.as_slice().as_ptr();
    let raw = cost(|| {
        // SAFETY: so many words are in the buffer, which is aligned to pages
        // and the CPU's.
        sum = unsafe { sum_raw(black_box(start).cast()) };
        anyhow::Ok(())
    })?;
    ensure!(sum == expected, "wrong sum");
    row_of("raw pointer", &title, X::Bytes(MIB), raw);
    Ok(())
}

/// # Safety
/// `words` is aligned, and valid for reads of [`WORDS`].
unsafe fn sum_raw(words: *const u32) -> u32 {
    let mut sum = 0_u32;
    for i in 0..WORDS {
        // SAFETY: the caller's.
        let word = unsafe { words.add(i) };
        // SAFETY: the caller's.
        sum = sum.wrapping_add(unsafe { *word });
    }
    sum
}
