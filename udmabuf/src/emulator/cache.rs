//! What the CPU sees of a buffer through its cache, line by line.
#![allow(unsafe_code, reason = "the lines are bytes that a `Buffer` makes references to")]

use std::{ops::Range, ptr::NonNull};

use super::pages::Pages;

/// The CPU's view of one buffer.
///
/// # Invariants
/// Whoever calls a function with a line knows that no reference to any byte of
/// it exists, and keeps all others out meanwhile: they run under the region's
/// lock, for lines that the device owns or that are just being handed over.
pub(super) struct Cache {
    view: Pages,
    /// What each line held when it was last filled or written back. The CPU's
    /// stores are not seen, so a line that differs from this is a dirty one.
    clean: Vec<u8>,
    line: usize,
}

impl Cache {
    /// An empty view of at least `len` bytes, in lines of `line` bytes, a power
    /// of two and at most a page.
    pub(super) fn new(len: usize, line: usize) -> Self {
        let view = Pages::new(len);
        let clean = vec![0; view.len()];
        Self { view, clean, line }
    }

    /// The length in bytes, of whole pages.
    pub(super) fn len(&self) -> usize {
        self.view.len()
    }

    /// The length of a line in bytes.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.view.start()
    }

    /// The lines that hold the bytes of `range`.
    pub(super) fn lines(&self, range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let line = self.line;
        let first = range.start / line * line;
        (first..range.end).step_by(line).map(move |start| start..start + line)
    }

    /// Clean, or an eviction: a dirty line goes to memory. One that is not
    /// dirty does nothing.
    pub(super) fn write_back(&mut self, line: Range<usize>, memory: &mut [u8]) {
        let view = self.view(&line);
        if *view != self.clean[line.clone()] {
            memory[line.clone()].copy_from_slice(view);
            self.clean[line.clone()].copy_from_slice(&memory[line]);
        }
    }

    /// Invalidate, and read again: the line is what memory holds, and what the
    /// CPU wrote to it is lost.
    pub(super) fn refill(&mut self, line: Range<usize>, memory: &[u8]) {
        self.clean[line.clone()].copy_from_slice(&memory[line.clone()]);
        self.view(&line).copy_from_slice(&memory[line]);
    }

    /// A prefetch: a line that is not dirty is dropped and read again.
    pub(super) fn prefetch(&mut self, line: Range<usize>, memory: &[u8]) {
        if *self.view(&line) == self.clean[line.clone()] {
            self.refill(line, memory);
        }
    }

    #[allow(clippy::mut_from_ref, reason = "exclusive by the invariant of `Cache`")]
    fn view(&self, line: &Range<usize>) -> &mut [u8] {
        assert!(line.end <= self.view.len());
        // SAFETY: inside the allocation, by the assertion.
        let start = unsafe { self.view.start().add(line.start) };
        // SAFETY: valid for the line's length and initialized; no other
        // reference to it and no other access, by the invariant.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), line.len()) }
    }
}
