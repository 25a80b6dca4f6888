//! Handing over, or taking back, many parts at once: one system call for as many
//! parts of a buffer as follow each other, where it takes one at all.
#![allow(unsafe_code, reason = "clears what cannot be synced, to which there are no references")]

use std::{
    mem,
    ops::ControlFlow::{self, Break, Continue},
    os::fd::BorrowedFd,
    ptr,
};

use rustix::io::Errno;
use udmabuf_sys::{
    abi::{SYNC_FOR_CPU, SYNC_FOR_DEVICE, SyncRange},
    ioctl,
};

use crate::{Error, barrier, direction::Kind, memory::Memory, part::Part};

/// Parts on their way from one owner to the other: of one memory and direction, each
/// starting where the one before ends, and synced as one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub(crate) first: &'a Part,
    pub(crate) len: usize,
    /// One, where it is shared.
    pub(crate) parts: usize,
    pub(crate) direction: Kind,
    pub(crate) is_shared: bool,
}

/// Something that has parts.
pub trait Each: Sized {
    /// Calls a function with each piece, until it has seen enough: the same ones in
    /// the same order each time.
    fn each<'a>(&'a self, visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>) -> ControlFlow<()>;

    /// The same for all of many, in as few pieces as can be.
    #[inline]
    fn each_of<'a>(
        all: &'a [Self],
        visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        all.iter().try_for_each(|one| one.each(visit))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToDevice,
    ToCpu,
}

/// Ranges in one system call.
const RANGES: usize = 64;

/// All parts are the device's from here on, or, on failure, none.
pub(crate) fn sync_for_device(parts: &impl Each) -> Result<(), Error> {
    sync(parts, Way::ToDevice)
}

/// All parts are the CPU's from here on, or, on failure, none.
pub(crate) fn sync_for_cpu(parts: &impl Each) -> Result<(), Error> {
    sync(parts, Way::ToCpu)
}

/// Parts that an engine was not told of are the CPU's from here on, whatever fails.
///
/// Another device may have written them before, and what it wrote be partly in the
/// CPU's cache: what cannot be synced is zeros then, on lines that are the CPU's, and
/// stays so. Where a device only read, the bytes are right.
pub(crate) fn call_back(parts: &impl Each) {
    let _ = parts.each(&mut |piece| {
        let taken = take_back(piece);
        if piece.direction != Kind::ToDevice && !piece.is_shared && taken.is_err_and(is_there) {
            // SAFETY: the parts of a piece follow each other, so these bytes are in
            // their memory (invariant 1 of `Part`). Their type is still the device's:
            // there is no reference (invariant 1 of `Buffer`). No device was started, and
            // an emulated one is locked out, also where the sync fails.
            unsafe { piece.first.memory().clear(piece.first.start(), piece.len) };
        }
        Continue(())
    });
}

/// Whether the memory is still mapped, as far as the error tells.
fn is_there(error: Error) -> bool {
    match error {
        Error::Os { source, .. } => Errno::from_io_error(&source) != Some(Errno::NODEV),
        _ => true,
    }
}

fn hand_over(piece: Piece<'_>) -> Result<(), Error> {
    let Piece { first, len, parts, direction, .. } = piece;
    match piece.is_shared {
        true => first.share(false, false),
        false => first.memory().sync_for_device(first.start(), len, parts, direction),
    }
}

fn take_back(piece: Piece<'_>) -> Result<(), Error> {
    let Piece { first, len, parts, direction, .. } = piece;
    match piece.is_shared {
        true => first.end_share(),
        false => first.memory().sync_for_cpu(first.start(), len, parts, direction),
    }
}

fn sync(parts: &impl Each, way: Way) -> Result<(), Error> {
    let mut run = Run { memory: None, parts: 0, done: 0 };
    let stopped = parts.each(&mut |piece| run.add(way, piece));
    run.end(way);
    match stopped {
        Continue(()) => Ok(()),
        Break(()) => sync_the_rest(parts, way, run.done),
    }
}

/// The first `done` parts, which are whole pieces, are synced.
#[cold]
fn sync_the_rest(parts: &impl Each, way: Way, done: usize) -> Result<(), Error> {
    let mut batch = Batch::new(way, done);
    let mut left = done;
    let _ = parts.each(&mut |piece| {
        if left != 0 {
            left = left.saturating_sub(piece.parts);
        } else if batch.error.is_none() {
            batch.add(piece);
        } else if way == Way::ToCpu && piece.first.memory().is_emulated() {
            let _ = take_back(piece); // an emulated device is locked out of all of them
        }
        Continue(())
    });
    batch.flush();
    let Some(error) = batch.error else { return Ok(()) };

    // Whoever calls again starts from where this began: the module counts what
    // is handed over, and what is taken back. The emulator does not.
    // One by one: what cannot be undone keeps nothing else from it.
    let mut left = batch.done;
    let _ = parts.each(&mut |piece| {
        let was_done = left != 0;
        left = left.saturating_sub(piece.parts);
        let _ = match way {
            _ if !was_done => Ok(()),
            Way::ToDevice => take_back(piece),
            Way::ToCpu if piece.first.memory().is_emulated() => Ok(()),
            Way::ToCpu => hand_over(piece),
        };
        Continue(())
    });
    Err(error)
}

/// Parts of one memory that follow each other, without a system call: the lines of
/// each piece, then one barrier and one count. It ends before a part that takes more.
struct Run<'a> {
    memory: Option<&'a Memory>,
    parts: usize,
    /// Parts of the runs before.
    done: usize,
}

impl<'a> Run<'a> {
    // For most there is one piece: with a call, what it is about goes through memory.
    #[inline(always)]
    fn add(&mut self, way: Way, piece: Piece<'a>) -> ControlFlow<()> {
        let memory = piece.first.memory();
        if !self.memory.is_some_and(|same| ptr::eq(same, memory)) {
            self.turn(way, memory)?;
        }
        self.parts += piece.parts;
        match way {
            Way::ToDevice => memory.clean(piece.first.start(), piece.len),
            Way::ToCpu => memory.drop_lines(piece.first.start(), piece.len, piece.direction),
        }
        Continue(())
    }

    /// Ends this run, and starts one.
    #[inline]
    fn turn(&mut self, way: Way, memory: &'a Memory) -> ControlFlow<()> {
        self.end(way);
        (self.memory, self.parts) = (None, 0);
        if !memory.is_direct() {
            return Break(());
        }
        self.memory = Some(memory);
        if way == Way::ToCpu {
            memory.begin_for_cpu();
        }
        Continue(())
    }

    #[inline]
    fn end(&mut self, way: Way) {
        let Some(memory) = self.memory else { return };
        match way {
            Way::ToDevice => memory.end_for_device(self.parts),
            Way::ToCpu => memory.end_for_cpu(self.parts),
        }
        self.done += self.parts;
    }
}

/// Pieces of one buffer that wait for the system call.
struct Batch<'a> {
    way: Way,
    /// The first of them, and the file that takes them.
    first: Option<(Piece<'a>, BorrowedFd<'a>)>,
    ranges: [SyncRange; RANGES],
    waiting: usize,
    /// Parts in those ranges.
    parts: usize,
    /// Parts that are synced: the first so many.
    done: usize,
    /// Why the next was not.
    error: Option<Error>,
}

impl<'a> Batch<'a> {
    fn new(way: Way, done: usize) -> Self {
        let ranges = [SyncRange { offset: 0, size: 0, command: 0, direction: 0 }; RANGES];
        Self { way, first: None, ranges, waiting: 0, parts: 0, done, error: None }
    }

    /// Called once for each of many pieces: what only a few of them need is apart.
    #[inline]
    fn add(&mut self, piece: Piece<'a>) {
        let memory = piece.first.memory();
        let is_same = self.first.is_some_and(|(same, _)| ptr::eq(same.first.memory(), memory));
        if (!is_same || self.waiting == RANGES) && !self.turn(piece) {
            return;
        }
        let command = if self.way == Way::ToDevice { SYNC_FOR_DEVICE } else { SYNC_FOR_CPU };
        if let Some(range) = self.ranges.get_mut(self.waiting) {
            #[allow(clippy::cast_possible_truncation, reason = "both are small constants")]
            let [command, direction] = [command, piece.direction as u64].map(|code| code as u32);
            let (offset, size) = (piece.first.offset() as u64, piece.len as u64);
            *range = SyncRange { offset, size, command, direction };
            self.waiting += 1;
            self.parts += piece.parts;
        }
    }

    /// Syncs what waits. Whether the piece can wait after that: if not, it is synced,
    /// too, or something has failed.
    #[inline(never)]
    fn turn(&mut self, piece: Piece<'a>) -> bool {
        self.flush();
        if self.error.is_some() {
            return false;
        }
        self.first = piece.first.memory().batch().map(|file| (piece, file));
        if self.first.is_some() {
            return true;
        }
        match self.alone(piece) {
            Ok(()) => self.done += piece.parts,
            Err(error) => self.error = Some(error),
        }
        false
    }

    fn alone(&self, piece: Piece<'_>) -> Result<(), Error> {
        match self.way {
            Way::ToDevice => hand_over(piece),
            Way::ToCpu => take_back(piece),
        }
    }

    fn flush(&mut self) {
        // Taken: after a failure nothing waits, and the end flushes once more.
        let Some((first, file)) = self.first.take() else { return };
        let (parts, waiting) = (mem::take(&mut self.parts), mem::take(&mut self.waiting));
        let synced = match waiting {
            // There is a cheaper call for one.
            1 => self.alone(first),
            _ => self.together(file, waiting).map_err(|errno| {
                let name = &first.first.memory().name;
                Error::os(name, format!("sync of {parts} parts"), errno)
            }),
        };
        match synced {
            Ok(()) => self.done += parts,
            Err(error) => self.error = Some(error),
        }
    }

    fn together(&self, file: BorrowedFd<'_>, waiting: usize) -> Result<(), Errno> {
        let ranges = self.ranges.get(..waiting).unwrap_or_default();
        match self.way {
            Way::ToDevice => {
                ioctl::sync_batch(file, ranges)?;
                barrier::before_device();
                Ok(())
            }
            Way::ToCpu => {
                barrier::after_device();
                ioctl::sync_batch(file, ranges)
            }
        }
    }
}

#[cfg(all(test, not(target_arch = "aarch64")))]
mod tests;
