//! A part of a buffer's memory: what one [`Buffer`](crate::Buffer) is.
#![allow(unsafe_code, reason = "does pointer arithmetic in a buffer, the only place that does")]

use std::{ptr::NonNull, sync::Arc};

use crate::{Error, direction::Kind, memory::Memory};

/// Some bytes of a buffer, which stays as long as any part of it.
///
/// # Invariants
/// 1. `start` points into `memory`, at least `len` bytes before its end;
///    `len` is not 0.
/// 2. No two parts have a byte in common, or a cache line: `split` gives each
///    byte to one of its two halves, and splits between lines only.
#[derive(Debug)]
pub struct Part {
    memory: Arc<Memory>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a part is a pointer into its own `Memory`, which is `Send` and `Sync`.
unsafe impl Send for Part {}
// SAFETY: as above; a shared `Part` gives no access to the bytes by itself.
unsafe impl Sync for Part {}

impl Part {
    /// All of the memory.
    pub(crate) fn whole(memory: Memory) -> Self {
        let (start, len) = (memory.start, memory.len);
        Self { memory: Arc::new(memory), start, len }
    }

    #[inline]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The memory, if this is its only part.
    pub(crate) fn memory_mut(&mut self) -> Option<&mut Memory> {
        Arc::get_mut(&mut self.memory)
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The addresses of its first byte, and of what follows its last one.
    #[inline]
    pub(crate) fn bounds(&self) -> (usize, usize) {
        let start = self.start.addr().get();
        (start, start + self.len)
    }

    /// Bytes from the start of the buffer.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.start.addr().get() - self.memory.start.addr().get()
    }

    #[inline]
    pub(crate) fn dma_addr(&self) -> u64 {
        self.memory.dma_addr + self.offset() as u64
    }

    /// Whether both are parts of one buffer.
    #[inline]
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// The part is the device's from here on; unless it fails.
    #[inline]
    pub(crate) fn sync_for_device(&self, direction: Kind) -> Result<(), Error> {
        self.memory.sync_for_device(self.start, self.len, 1, direction)
    }

    /// The part is the CPU's from here on; unless it fails.
    #[inline]
    pub(crate) fn sync_for_cpu(&self, direction: Kind) -> Result<(), Error> {
        self.memory.sync_for_cpu(self.start, self.len, 1, direction)
    }

    /// CPU and device may access the part from here on; unless it fails.
    pub(crate) fn share(&self, cached: bool, combines: bool) -> Result<(), Error> {
        self.memory.share(self.start, self.len, cached, combines)
    }

    /// The part is the CPU's alone from here on; unless it fails.
    pub(crate) fn end_share(&self) -> Result<(), Error> {
        self.memory.end_share(self.start, self.len)
    }

    /// Cuts the part in two at `at` bytes from its start.
    pub(crate) fn split(self, at: usize) -> Result<(Self, Self), (Error, Self)> {
        if let Err(error) = self.check_split(at) {
            return Err((error, self));
        }
        // SAFETY: `at` is less than `len` (checked), so by invariant 1 the
        // result is in the same memory.
        let middle = unsafe { self.start.add(at) };
        let back = Self { memory: self.memory.clone(), start: middle, len: self.len - at };
        Ok((Self { len: at, ..self }, back))
    }

    fn check_split(&self, at: usize) -> Result<(), Error> {
        let line = self.memory.line;
        if self.memory.syncs_whole {
            let what = "cannot be split: its driver syncs it only as a whole";
            return Err(Error::Unsupported { name: self.memory.name.as_str().into(), what });
        }
        if at == 0 || at >= self.len {
            let [offset, size] = [at, self.len].map(|bytes| bytes as u64);
            return Err(Error::OutOfRange { offset, len: 1, size });
        }
        // Every part starts at a line, as the buffer does.
        match at % line {
            0 => Ok(()),
            over => Err(Error::InsideLine {
                offset: at as u64,
                line: line as u64,
                // No further than `isize::MAX` and a line.
                next: (at - over + line) as u64,
            }),
        }
    }

    /// Both as one part, if `next` starts where `self` ends.
    pub(crate) fn join(self, next: Self) -> Result<Self, (Error, Self, Self)> {
        if !self.is_beside(&next) || self.offset() + self.len != next.offset() {
            let error = Error::NotNeighbours {
                first: self.to_string().into(),
                second: next.to_string().into(),
            };
            return Err((error, self, next));
        }
        // By invariant 2 the bytes of both are theirs alone, and so they are
        // the joined part's.
        Ok(Self { len: self.len + next.len, ..self })
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{:#x}, {} bytes]", self.memory.name, self.offset(), self.len)
    }
}
