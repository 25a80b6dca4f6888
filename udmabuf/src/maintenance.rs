//! Cache maintenance by the program itself, line by line: what a handover does
//! on arm64 where the kernel module says that it is enough
//! (`U_DMA_BUF_CAP_USER_SYNC`). The only cache instructions in the project.
//!
//! `DC IVAC`, which drops a line, is the kernel's alone. `DC CIVAC` writes a
//! dirty line back first; but nobody on the CPU's side writes a part while the
//! device owns it, so its lines are clean, and it drops them just the same.
#![allow(unsafe_code, reason = "cache maintenance is inline assembly")]

use std::ptr::NonNull;

use crate::direction::Kind;

/// The instructions, so that tests can see which lines they are for.
trait Instructions {
    /// Writes the line at `addr` back to memory, if it is dirty.
    fn clean(&mut self, addr: usize);
    /// Writes the line at `addr` back, if it is dirty, and drops it.
    fn clean_and_drop(&mut self, addr: usize);
    /// All maintenance before this is done before anything after it starts.
    fn complete(&mut self);
    /// All accesses before this come before all accesses and maintenance after.
    fn order(&mut self);
}

/// What the CPU wrote to `len` bytes at `start` is in memory, and no line of
/// them is dirty, before any later access to a device.
#[inline]
fn for_device(on: &mut impl Instructions, start: usize, len: usize, line: usize, is_short: bool) {
    each_line(start, len, line, is_short, |addr| on.clean(addr));
    on.complete();
}

/// What the device wrote is what later reads see; before it came the read of
/// the device's status.
#[inline]
fn for_cpu(
    on: &mut impl Instructions,
    start: usize,
    len: usize,
    line: usize,
    is_short: bool,
    direction: Kind,
) {
    on.order();
    if direction != Kind::ToDevice {
        each_line(start, len, line, is_short, |addr| on.clean_and_drop(addr));
        on.complete();
    }
}

/// Lines in one turn of the loop, so that a line costs its instruction, the next
/// address, and a tenth of an instruction for the loop.
const UNROLLED: usize = 32;
/// Lines that are worth no call.
const SHORT: usize = 8;

/// Every line, of `line` bytes (a power of two), that has a byte of the range.
/// `is_short` leaves out the unrolled loop, and is known at compile time.
#[inline]
fn each_line(start: usize, len: usize, line: usize, is_short: bool, mut each: impl FnMut(usize)) {
    let end = start + len; // a range of memory does not wrap
    let mut at = start & !(line - 1);
    // The last address from which there are as many; none where the range ends below.
    if let Some(last) = end.checked_sub(UNROLLED * line).filter(|_| !is_short) {
        while at <= last {
            for _ in 0..UNROLLED {
                each(at);
                at += line;
            }
        }
    }
    while at < end {
        each(at);
        at += line;
    }
}

/// The CPU's own instructions.
#[cfg(target_arch = "aarch64")]
mod cpu {
    use core::arch::asm;

    /// A CPU that lets programs maintain its data cache by address, and the
    /// smallest line of any of its caches.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Cpu {
        line: usize,
    }

    impl Cpu {
        /// What this CPU can do.
        pub(crate) fn new() -> Option<Self> {
            let ctr: u64;
            // SAFETY: Linux lets programs read CTR_EL0, or answers for it.
            unsafe {
                asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags));
            }
            // DminLine, bits 16 to 19: the logarithm of its length in words.
            Some(Self { line: 4 << (ctr >> 16 & 0xf) })
        }

        #[inline]
        pub(crate) fn line(self) -> usize {
            self.line
        }
    }

    impl super::Instructions for Cpu {
        #[inline]
        fn clean(&mut self, addr: usize) {
            // SAFETY: writes back what the CPU wrote, nothing else. That
            // `addr` is mapped is the module's callers' duty. It is no `nomem`:
            // stores before it stay before it.
            unsafe { asm!("dc cvac, {}", in(reg) addr, options(nostack, preserves_flags)) };
        }

        #[inline]
        fn clean_and_drop(&mut self, addr: usize) {
            // SAFETY: as in `clean`; the compiler takes it for a write to memory,
            // so it reads again what it had read before.
            unsafe { asm!("dc civac, {}", in(reg) addr, options(nostack, preserves_flags)) };
        }

        #[inline]
        fn complete(&mut self) {
            // The full system: the device is in no shareability domain.
            // SAFETY: a barrier accesses no memory.
            unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
        }

        #[inline]
        fn order(&mut self) {
            // Not `oshld`: maintenance counts as a store.
            // SAFETY: as above.
            unsafe { asm!("dmb osh", options(nostack, preserves_flags)) };
        }
    }
}

/// Only the kernel can maintain the caches here, or nobody has to.
#[cfg(not(any(target_arch = "aarch64", test)))]
mod cpu {
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Cpu {}

    impl Cpu {
        pub(crate) fn new() -> Option<Self> {
            None
        }

        pub(crate) fn line(self) -> usize {
            match self {}
        }
    }

    impl super::Instructions for Cpu {
        fn clean(&mut self, _: usize) {
            match *self {}
        }

        fn clean_and_drop(&mut self, _: usize) {
            match *self {}
        }

        fn complete(&mut self) {
            match *self {}
        }

        fn order(&mut self) {
            match *self {}
        }
    }
}

#[cfg(test)]
mod recorder;

#[cfg(any(target_arch = "aarch64", not(test)))]
pub(crate) use cpu::Cpu;
#[cfg(test)]
pub(crate) use recorder::Step;
#[cfg(all(test, not(target_arch = "aarch64")))]
pub(crate) use recorder::{Cpu, record};

impl Cpu {
    /// The maintenance of so many bytes is worth no call.
    pub(crate) fn short(self) -> usize {
        SHORT * self.line()
    }

    /// Cleans `len` mapped bytes at `start`, before the device gets them.
    #[inline]
    pub(crate) fn sync_for_device(mut self, start: NonNull<u8>, len: usize, is_short: bool) {
        let (line, start) = (self.line(), start.as_ptr().expose_provenance());
        for_device(&mut self, start, len, line, is_short);
    }

    /// Drops the lines of `len` mapped bytes at `start`, after the device has
    /// had them.
    #[inline]
    pub(crate) fn sync_for_cpu(
        mut self,
        start: NonNull<u8>,
        len: usize,
        is_short: bool,
        direction: Kind,
    ) {
        let (line, start) = (self.line(), start.as_ptr().expose_provenance());
        for_cpu(&mut self, start, len, line, is_short, direction);
    }

    // The same in steps, for many ranges between two barriers.

    /// Cleans `len` mapped bytes at `start`.
    #[inline(never)]
    pub(crate) fn clean_lines(mut self, start: NonNull<u8>, len: usize) {
        let (line, start) = (self.line(), start.as_ptr().expose_provenance());
        each_line(start, len, line, false, |addr| self.clean(addr));
    }

    /// Drops the lines of `len` mapped bytes at `start`.
    #[inline(never)]
    pub(crate) fn drop_lines(mut self, start: NonNull<u8>, len: usize) {
        let (line, start) = (self.line(), start.as_ptr().expose_provenance());
        each_line(start, len, line, false, |addr| self.clean_and_drop(addr));
    }

    /// The device's status was read before.
    #[inline]
    pub(crate) fn order_lines(mut self) {
        self.order();
    }

    /// All that was started is done.
    #[inline]
    pub(crate) fn wait_for_lines(mut self) {
        self.complete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: usize = 0x1000_0000;

    /// Every line of the range, each once, in order, and none beside it.
    fn lines(start: usize, len: usize, line: usize) -> Vec<usize> {
        (start / line..).map(|number| number * line).take_while(|&at| at < start + len).collect()
    }

    fn ranges() -> impl Iterator<Item = (usize, usize, usize)> {
        [16, 64, 128].into_iter().flat_map(|line| {
            let lens = (1..=3 * line).chain((31..=66).map(move |n| n * line)).chain([4096, 65536]);
            lens.flat_map(move |len| {
                [0, 1, line - 1, 5 * line]
                    .into_iter()
                    .map(move |offset| (START + offset, len, line))
            })
        })
    }

    #[test]
    fn every_line_of_the_part_and_none_beside_it_then_the_barrier() {
        for (start, len, line) in ranges() {
            let expected: Vec<_> = lines(start, len, line).into_iter().map(Step::Clean).collect();
            for is_short in [false, true] {
                let mut steps = Vec::new();
                for_device(&mut steps, start, len, line, is_short);
                assert_eq!(steps.pop(), Some(Step::Complete));
                assert_eq!(steps, expected, "{len} bytes, lines of {line}");
            }
        }
    }

    #[test]
    fn the_status_comes_first_and_the_barrier_last_on_the_way_back() {
        for direction in [Kind::FromDevice, Kind::Bidirectional] {
            for (start, len, line) in ranges() {
                let expected: Vec<_> =
                    lines(start, len, line).into_iter().map(Step::CleanAndDrop).collect();
                for is_short in [false, true] {
                    let mut steps = Vec::new();
                    for_cpu(&mut steps, start, len, line, is_short, direction);
                    assert_eq!(steps.pop(), Some(Step::Complete));
                    assert_eq!(steps.remove(0), Step::Order);
                    assert_eq!(steps, expected, "{len} bytes, lines of {line}");
                }
            }
        }
    }

    #[test]
    fn what_the_device_only_read_keeps_its_lines() {
        let mut steps = Vec::new();
        for_cpu(&mut steps, START, 4096, 64, false, Kind::ToDevice);
        assert_eq!(steps, [Step::Order]);
    }
}
