//! What a driver has handed over, where it survives the driver.

use std::{
    fs::File,
    ops::Range,
    sync::atomic::{Ordering::SeqCst, compiler_fence},
};

use anyhow::Result;
use rustix::mm::MapFlags;

use crate::map::Map;

const PATH: &str = "/tmp/kill-record";
const LEN: usize = 4096;

/// Where a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum At {
    Cpu,
    /// A handover has begun, and perhaps ended.
    Leaving,
    /// A handover has ended, and no taking back has begun.
    Device,
    /// A taking back has begun, and perhaps ended.
    Returning,
}

/// What the next user of the buffer has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All parts were the CPU's.
    Free,
    /// Some part was the device's.
    Owned,
    /// Death came during a handover: both are right.
    Either,
}

/// A byte a part, in a file that parent and child have mapped.
pub(super) struct Record(Map);

impl Record {
    pub(super) fn new() -> Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(PATH)?;
        file.set_len(LEN as u64)?;
        Ok(Self(Map::new(&file, LEN, MapFlags::empty())?))
    }

    pub(super) fn clear(&self) {
        (0..LEN).for_each(|at| self.0.set(at, At::Cpu as u8));
    }

    /// A thread that is killed has done all instructions before one, and none
    /// after: what the compiler leaves in order is in order.
    pub(super) fn set(&self, part: usize, at: At) {
        compiler_fence(SeqCst);
        self.0.set(part, at as u8);
        compiler_fence(SeqCst);
    }

    pub(super) fn verdict(&self, parts: Range<usize>) -> Verdict {
        let any = |wanted: &[At]| {
            parts.clone().any(|part| wanted.iter().any(|&at| self.0.get(part) == at as u8))
        };
        match (any(&[At::Device]), any(&[At::Leaving, At::Returning])) {
            (true, _) => Verdict::Owned,
            (false, true) => Verdict::Either,
            (false, false) => Verdict::Free,
        }
    }
}
