//! Handing over, or taking back, many parts at once: one system call for as many
//! parts of a buffer as follow each other, where it takes one at all.

use std::ptr::{self, NonNull};

use udmabuf_sys::{
    abi::{SYNC_FOR_CPU, SYNC_FOR_DEVICE, SyncRange},
    ioctl,
};

use crate::{Error, barrier, direction::Kind, memory::Memory, part::Part};

/// A part on its way from one owner to the other.
#[derive(Clone, Copy, Debug)]
pub struct Loan<'a> {
    pub(crate) part: &'a Part,
    pub(crate) direction: Kind,
    pub(crate) is_shared: bool,
}

/// Something that calls a function with each of its parts, in the same order
/// each time.
pub trait Each {
    fn each<'a>(&'a self, visit: &mut impl FnMut(Loan<'a>));
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

/// Parts that no device was told of are the CPU's from here on, whatever fails:
/// the bytes are right, as nobody but the CPU has written them, and what fails
/// concerns only what is remembered of the handover.
pub(crate) fn call_back(parts: &impl Each) {
    parts.each(&mut |loan| {
        let _ = take_back(loan);
    });
}

fn take_back(loan: Loan<'_>) -> Result<(), Error> {
    match loan.is_shared {
        true => loan.part.end_share(),
        false => loan.part.sync_for_cpu(loan.direction),
    }
}

fn sync(parts: &impl Each, way: Way) -> Result<(), Error> {
    let mut run = Run::FIRST;
    parts.each(&mut |loan| {
        if !run.goes_on(loan) {
            run = run.turn(way, loan.part, loan.direction);
        }
    });
    match run.end(way) {
        (_, true) => Ok(()),
        (done, false) => sync_the_rest(parts, way, done),
    }
}

/// The first `done` parts are synced.
#[cold]
fn sync_the_rest(parts: &impl Each, way: Way, done: usize) -> Result<(), Error> {
    let mut batch = Batch::new(way, done);
    let mut result = Ok(());
    let mut left = done;
    parts.each(&mut |loan| {
        if left != 0 {
            left -= 1;
        } else if result.is_ok() {
            result = batch.add(loan);
        } else if way == Way::ToCpu && loan.part.memory().is_emulated() {
            let _ = take_back(loan); // an emulated device is locked out of all of them
        }
    });
    result = result.and_then(|()| batch.flush());
    if result.is_ok() {
        return result;
    }

    // Whoever calls again starts from where this began: the module counts what
    // is handed over, and what is taken back. The emulator does not.
    let mut left = batch.done;
    let mut back = Batch::new(if way == Way::ToDevice { Way::ToCpu } else { Way::ToDevice }, 0);
    let mut undone = Ok(());
    parts.each(&mut |loan| {
        let was_done = left != 0;
        left = left.saturating_sub(1);
        let is_counted = way == Way::ToDevice || !loan.part.memory().is_emulated();
        if was_done && is_counted && undone.is_ok() {
            undone = back.add(loan);
        }
    });
    let _ = undone.and_then(|()| back.flush());
    result
}

/// Parts of one memory that follow each other, without a system call: all lines,
/// then one barrier and one count. The last of them, `start..end`, are one piece.
///
/// By value, so that it stays in registers.
#[derive(Clone, Copy)]
struct Run<'a> {
    memory: Option<&'a Memory>,
    start: NonNull<u8>,
    end: NonNull<u8>,
    direction: Kind,
    parts: u32,
    /// Parts of the runs before.
    done: usize,
    /// There was a part that takes more than this.
    is_over: bool,
}

impl<'a> Run<'a> {
    const FIRST: Self = Self {
        memory: None,
        start: NonNull::dangling(),
        end: NonNull::dangling(),
        direction: Kind::Bidirectional,
        parts: 0,
        done: 0,
        is_over: false,
    };

    #[inline]
    fn is_of(&self, memory: &Memory) -> bool {
        self.memory.map_or(ptr::null(), ptr::from_ref) == ptr::from_ref(memory)
    }

    /// Takes the part, if it starts where the piece ends.
    #[inline]
    fn goes_on(&mut self, loan: Loan<'a>) -> bool {
        // One branch for all three: it is taken for each part.
        let is_next = self.is_of(loan.part.memory())
            & (self.end == loan.part.start())
            & (self.direction == loan.direction);
        if is_next {
            self.end = loan.part.end();
            self.parts += 1;
        }
        is_next
    }

    /// Starts a piece with this part, and perhaps a run.
    #[inline(never)]
    fn turn(self, way: Way, part: &'a Part, direction: Kind) -> Self {
        let (memory, start, end) = (part.memory(), part.start(), part.end());
        if self.is_over {
            return self;
        }
        if self.is_of(memory) {
            self.maintain(way);
            return Self { start, end, direction, parts: self.parts + 1, ..self };
        }
        let (done, _) = self.end(way);
        if !memory.is_direct() {
            return Self { done, is_over: true, ..Self::FIRST };
        }
        if way == Way::ToCpu {
            memory.begin_for_cpu();
        }
        Self { memory: Some(memory), start, end, direction, parts: 1, done, is_over: false }
    }

    fn maintain(self, way: Way) {
        let Some(memory) = self.memory else { return };
        let len = self.end.addr().get() - self.start.addr().get();
        match way {
            Way::ToDevice => memory.clean(self.start, len),
            Way::ToCpu => memory.drop_lines(self.start, len, self.direction),
        }
    }

    /// How many parts are synced, and whether these are all.
    fn end(self, way: Way) -> (usize, bool) {
        self.maintain(way);
        if let Some(memory) = self.memory {
            match way {
                Way::ToDevice => memory.end_for_device(self.parts),
                Way::ToCpu => memory.end_for_cpu(self.parts),
            }
        }
        (self.done + self.parts as usize, !self.is_over)
    }
}

/// Ranges of one buffer that wait for the system call.
struct Batch<'a> {
    way: Way,
    memory: Option<&'a Memory>,
    ranges: [SyncRange; RANGES],
    waiting: usize,
    /// Parts that are synced: the first so many.
    done: usize,
}

impl<'a> Batch<'a> {
    fn new(way: Way, done: usize) -> Self {
        let ranges = [SyncRange { offset: 0, size: 0, command: 0, direction: 0 }; RANGES];
        Self { way, memory: None, ranges, waiting: 0, done }
    }

    fn add(&mut self, loan: Loan<'a>) -> Result<(), Error> {
        let memory = loan.part.memory();
        if memory.batch().is_none() {
            self.flush()?;
            match self.way {
                Way::ToDevice if loan.is_shared => loan.part.share(false)?,
                Way::ToDevice => loan.part.sync_for_device(loan.direction)?,
                Way::ToCpu => take_back(loan)?,
            }
            self.done += 1;
            return Ok(());
        }
        if self.waiting == RANGES || self.memory.is_some_and(|other| !ptr::eq(other, memory)) {
            self.flush()?;
        }
        self.memory = Some(memory);
        let command = if self.way == Way::ToDevice { SYNC_FOR_DEVICE } else { SYNC_FOR_CPU };
        if let Some(range) = self.ranges.get_mut(self.waiting) {
            #[allow(clippy::cast_possible_truncation, reason = "both are small constants")]
            let [command, direction] = [command, loan.direction as u64].map(|code| code as u32);
            let (offset, size) = (loan.part.offset() as u64, loan.part.len() as u64);
            *range = SyncRange { offset, size, command, direction };
            self.waiting += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some((memory, file)) =
            self.memory.take().and_then(|memory| Some((memory, memory.batch()?)))
        else {
            return Ok(());
        };
        let ranges = self.ranges.get(..self.waiting).unwrap_or_default();
        if self.way == Way::ToCpu {
            barrier::after_device();
        }
        ioctl::sync_batch(file, ranges).map_err(|errno| {
            Error::os(&memory.name, format!("sync of {} parts", ranges.len()), errno)
        })?;
        if self.way == Way::ToDevice {
            barrier::before_device();
        }
        self.done += std::mem::take(&mut self.waiting);
        Ok(())
    }
}
