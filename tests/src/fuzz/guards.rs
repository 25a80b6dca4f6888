//! Memory beside the fuzzed buffers, filled, and looked at now and then: buffers
//! that nobody uses, and what is between two reserved regions' buffers.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
};

use anyhow::{Context, Result, ensure};
use udmabuf_sys::ioctl;

use super::{admin::command, arena::PAGE, raw};

/// What guards are filled with.
const FILL: u8 = 0xa5;

pub(crate) struct Guard {
    name: String,
    file: File,
    len: usize,
    pub(crate) span: [u64; 2],
}

impl Guard {
    pub(crate) fn new(name: String, options: &str) -> Result<Self> {
        let text = format!("create {name} {options}\n");
        command(text.as_bytes()).with_context(|| text.clone())?;
        let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
        let len = usize::try_from(ioctl::size(file.as_fd())?)?;
        file.write_all_at(&vec![FILL; len], 0)?;
        let span = span(&name)?;
        Ok(Self { name, file, len, span })
    }

    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.span[1] == other.span[0] || self.span[0] == other.span[1]
    }

    /// As it was made; its name.
    pub(crate) fn into_buffer(self) -> Result<String> {
        self.file.write_all_at(&vec![0; self.len], 0)?;
        Ok(self.name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn size(&self) -> u64 {
        self.len as u64
    }

    pub(crate) fn check(&self) -> Result<()> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, 0)?;
        let wrong = bytes.iter().position(|&byte| byte != FILL);
        ensure!(wrong.is_none(), "{}: byte {wrong:?} outside of every buffer changed", self.name);
        Ok(())
    }

    pub(crate) fn end(self) -> Result<()> {
        self.check()?;
        let Self { name, file, .. } = self;
        drop(file);
        command(format!("delete {name}\n").as_bytes()).context("delete a guard")?;
        Ok(())
    }
}

/// Where a buffer is, from the first byte to the one behind the last page.
pub(crate) fn span(name: &str) -> Result<[u64; 2]> {
    let file = File::open(format!("/dev/{name}"))?;
    let info = ioctl::device_info(file.as_fd())?;
    Ok([info.dma_addr, info.dma_addr + info.size.next_multiple_of(PAGE as u64)])
}

/// Physical memory between two buffers in no-map regions: nobody else has it, and
/// the kernel does not even map it. Filled, and looked at, at both ends.
///
/// # Invariants
/// `address` is a mapping of `len` bytes, which is never ended.
pub(crate) struct Reserved {
    address: usize,
    len: usize,
}

impl Reserved {
    const LOOKED_AT: usize = 4 * PAGE;

    pub(crate) fn new(start: u64, end: u64) -> Result<Self> {
        let len = end.checked_sub(start).context("not in this order")?.try_into()?;
        ensure!(len >= 2 * Self::LOOKED_AT, "{len} bytes between {start:#x} and {end:#x}");
        let memory = File::options().read(true).write(true).open("/dev/mem").context("/dev/mem")?;
        let both = raw::PROT_READ | raw::PROT_WRITE;
        let address = raw::map(memory.as_fd(), both, raw::MAP_SHARED, raw::signed(start), len)?;
        let reserved = Self { address, len };
        reserved.ends().for_each(|at| raw::set(address + at, FILL));
        Ok(reserved)
    }

    fn ends(&self) -> impl Iterator<Item = usize> {
        (0..Self::LOOKED_AT).chain(self.len - Self::LOOKED_AT..self.len)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = self.ends().find(|at| raw::get(self.address + at) != FILL);
        ensure!(wrong.is_none(), "byte {wrong:?} of {}, between two buffers, changed", self.len);
        Ok(())
    }
}
