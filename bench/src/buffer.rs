//! What buffers cost.
#![allow(unsafe_code, reason = "no device is there to vouch, and the yardstick is a raw pointer")]

use std::{fs::File, hint::black_box, os::fd::AsFd};

use anyhow::{Result, ensure};
use udmabuf::Buffer;
use udmabuf_sys::{ioctl, map::Mapping};

use crate::meter::{X, cost, row, row_of};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PAGE: usize = 4096;

/// 64, 256, 1024... bytes, up to `len`.
fn sizes(from: usize, len: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from), |size| size.checked_mul(4))
        .take_while(move |&size| size <= len)
}

pub(crate) fn measure(name: &str) -> Result<()> {
    let mut buffer = Buffer::open(name)?;
    let kind = if buffer.is_coherent() { "coherent" } else { "non-coherent" };
    let len = buffer.len();
    let title = |operation: &str| format!("{operation}, {kind}");

    buffer = handovers(buffer, &title("sync for the device and back"))?;
    if len >= MIB {
        copies(&mut buffer, &title)?;
        views(&mut buffer, &title)?;
    }
    drop(buffer);

    let cost_of_open = cost(|| Buffer::open(name).map(drop))?;
    row(&title("open, claim, map, close"), X::Bytes(len), cost_of_open);
    mappings(name, len, &title("mmap, touch every page, munmap"))
}

fn handovers(buffer: Buffer, title: &str) -> Result<Buffer> {
    let len = buffer.len();
    let mut held = Some(buffer);
    let pair = cost(|| {
        if let Some(buffer) = held.take() {
            let buffer = buffer.into_device()?;
            // SAFETY: no device was given its address.
            held = Some(unsafe { buffer.into_cpu() }?);
        }
        anyhow::Ok(())
    })?;
    row(title, X::Bytes(len), pair);
    held.ok_or_else(|| anyhow::anyhow!("the buffer is gone"))
}

fn mappings(name: &str, len: usize, title: &str) -> Result<()> {
    let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
    ioctl::claim(file.as_fd(), false)?;
    for size in sizes(64 * KIB, len) {
        let cost = cost(|| {
            let mapping = Mapping::new(file.as_fd(), size)?;
            for page in (0..size).step_by(PAGE) {
                // SAFETY: inside the mapping.
                let byte = unsafe { mapping.start().add(page) };
                // SAFETY: as above, and nobody else has a reference to it.
                unsafe { byte.write_volatile(1) };
            }
            anyhow::Ok(())
        })?;
        row(title, X::Bytes(size), cost);
    }
    Ok(())
}

fn words() -> Vec<u32> {
    (0..1 << 18).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect()
}

fn copies(buffer: &mut Buffer, title: &dyn Fn(&str) -> String) -> Result<()> {
    let words = words();
    buffer.as_mut_slice()[..MIB].fill(0);
    let into = cost(|| {
        buffer.slice_of_mut::<u32>(0, words.len())?.copy_from_slice(black_box(&words));
        anyhow::Ok(())
    })?;
    let mut back = vec![0; words.len()];
    let out_of = cost(|| {
        black_box(&mut back).copy_from_slice(buffer.slice_of(0, words.len())?);
        anyhow::Ok(())
    })?;
    ensure!(back == words, "wrong bytes");
    row(&title("memcpy in"), X::Bytes(MIB), into);
    row(&title("memcpy out"), X::Bytes(MIB), out_of);
    Ok(())
}

/// Words added up through the typed slice, and through a raw pointer by the
/// same compiler.
fn views(buffer: &mut Buffer, title: &dyn Fn(&str) -> String) -> Result<()> {
    let words = words();
    let expected = words.iter().fold(0, |sum: u32, word| sum.wrapping_add(*word));
    buffer.slice_of_mut::<u32>(0, words.len())?.copy_from_slice(&words);

    let title = title("sum of 32-bit words");
    let mut sum = 0_u32;
    let view = cost(|| {
        sum = buffer
            .slice_of::<u32>(0, words.len())?
            .iter()
            .fold(0_u32, |sum, word| sum.wrapping_add(*word));
        anyhow::Ok(())
    })?;
    ensure!(sum == expected, "wrong sum");
    row(&title, X::Bytes(MIB), view);

    let start = buffer.as_slice().as_ptr();
    let raw = cost(|| {
        sum = sum_raw(black_box(start).cast(), words.len());
        anyhow::Ok(())
    })?;
    ensure!(sum == expected, "wrong sum");
    row_of("raw pointer", &title, X::Bytes(MIB), raw);
    Ok(())
}

fn sum_raw(words: *const u32, count: usize) -> u32 {
    let mut sum = 0_u32;
    for i in 0..count {
        // SAFETY: the caller's buffer has as many words, and is aligned to pages.
        let word = unsafe { words.add(i) };
        // SAFETY: as above; the CPU owns the buffer.
        sum = sum.wrapping_add(unsafe { *word });
    }
    sum
}
