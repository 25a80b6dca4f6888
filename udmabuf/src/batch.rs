//! Handing over, or taking back, many parts at once: one system call for as many
//! parts of a buffer as follow each other, where it takes one at all.

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
/// each time, until one fails.
pub trait Each {
    fn each<'a>(
        &'a self,
        visit: &mut dyn FnMut(Loan<'a>) -> Result<(), Error>,
    ) -> Result<(), Error>;
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

fn sync(parts: &impl Each, way: Way) -> Result<(), Error> {
    let mut batch = Batch::new(way);
    let result = parts.each(&mut |loan| batch.add(loan)).and_then(|()| batch.flush());
    if result.is_ok() {
        return result;
    }
    // The bytes are right either way, as no device has been told of anything:
    // what fails here concerns what is remembered after this process.
    let mut left = batch.done;
    let mut back = Batch::new(if way == Way::ToDevice { Way::ToCpu } else { Way::ToDevice });
    let undone = parts.each(&mut |loan| match left.checked_sub(1) {
        Some(fewer) => {
            left = fewer;
            back.add(loan)
        }
        None => Ok(()),
    });
    let _ = undone.and_then(|()| back.flush());
    result
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
    fn new(way: Way) -> Self {
        let ranges = [SyncRange { offset: 0, size: 0, command: 0, direction: 0 }; RANGES];
        Self { way, memory: None, ranges, waiting: 0, done: 0 }
    }

    fn add(&mut self, loan: Loan<'a>) -> Result<(), Error> {
        let memory = loan.part.memory();
        if memory.batch().is_none() {
            self.flush()?;
            match (self.way, loan.is_shared) {
                (Way::ToDevice, _) => loan.part.sync_for_device(loan.direction)?,
                (Way::ToCpu, false) => loan.part.sync_for_cpu(loan.direction)?,
                (Way::ToCpu, true) => loan.part.end_share()?,
            }
            self.done += 1;
            return Ok(());
        }
        if self.waiting == RANGES || self.memory.is_some_and(|other| !std::ptr::eq(other, memory)) {
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
