//! Memory beside the fuzzed buffers: buffers that nobody uses, filled, and looked
//! at now and then.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
};

use anyhow::{Context, Result, ensure};
use udmabuf_sys::ioctl;

use super::admin::command;

/// What guards are filled with.
const FILL: u8 = 0xa5;

pub(crate) struct Guard {
    name: String,
    file: File,
    len: usize,
    /// Where it is, from the first byte to the one behind the last page.
    pub(crate) span: [u64; 2],
}

impl Guard {
    pub(crate) fn new(name: String, options: &str) -> Result<Self> {
        let text = format!("create {name} {options}\n");
        command(text.as_bytes()).with_context(|| text.clone())?;
        let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
        let len = usize::try_from(ioctl::size(file.as_fd())?)?;
        file.write_all_at(&vec![FILL; len], 0)?;
        let span = span(&file)?;
        Ok(Self { name, file, len, span })
    }

    /// As it was made; its name.
    pub(crate) fn into_buffer(self) -> Result<String> {
        self.file.write_all_at(&vec![0; self.len], 0)?;
        Ok(self.name)
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

pub(crate) fn span(file: &File) -> Result<[u64; 2]> {
    let info = ioctl::device_info(file.as_fd())?;
    Ok([info.dma_addr, info.dma_addr + info.size.next_multiple_of(4096)])
}
