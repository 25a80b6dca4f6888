//! Memory beside the fuzzed buffers: buffers that nobody uses, filled, and looked
//! at now and then.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use udmabuf_sys::ioctl;

use super::admin::command;

pub(crate) struct Guard {
    name: String,
    file: File,
    len: usize,
    fill: u8,
}

impl Guard {
    pub(crate) fn new(name: String, options: &str, fill: u8) -> Result<Self> {
        let text = format!("create {name} {options}\n");
        command(text.as_bytes()).with_context(|| text.clone())?;
        let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
        let len = usize::try_from(ioctl::size(std::os::fd::AsFd::as_fd(&file))?)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![fill; len], 0)?;
        Ok(Self { name, file, len, fill })
    }

    /// Where it is, from the first byte to the one behind the last page.
    pub(crate) fn span(&self) -> Result<[u64; 2]> {
        span(&self.file)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let mut bytes = vec![0; self.len];
        std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut bytes, 0)?;
        let wrong = bytes.iter().position(|&byte| byte != self.fill);
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
    let info = ioctl::device_info(std::os::fd::AsFd::as_fd(file))?;
    Ok([info.dma_addr, info.dma_addr + info.size.next_multiple_of(4096)])
}
