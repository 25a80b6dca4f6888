//! Every command of the device file once, through the structures of
//! `udmabuf_sys`. A program of 32 bits runs it, too: on x86 its structures are
//! laid out otherwise than the kernel's.

use std::{
    os::fd::AsFd,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use rustix::{fs::OFlags, io::Errno};
use udmabuf_sys::{
    abi::{self, Direction, SyncArgs, SyncRange},
    dma_buf, ioctl,
    map::Mapping,
};

use super::{memory_types::has_svpbmt, module::open};

const PAGE: u64 = 4096;

pub(crate) fn every(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();

    let driver = ioctl::driver_info(fd)?;
    ensure!(driver.flags & abi::DRV_IOCTL_VERSION == 2, "flags of the driver: {:#x}", driver.flags);
    ensure!(driver.version[0].is_ascii_digit(), "version: {:?}", driver.version);
    let info = ioctl::device_info(fd)?;
    ensure!(ioctl::size(fd)? == info.size && info.size >= 4 * PAGE, "size: {}", info.size);
    ensure!(ioctl::dma_addr(fd)? == info.dma_addr, "two addresses");
    let caps = ioctl::capabilities(fd)?;
    ensure!(caps.cache_alignment.is_power_of_two(), "alignment: {}", caps.cache_alignment);

    let before = ioctl::sync_settings(fd)?;
    let flags = 3 << abi::SYNC_MODE_SHIFT | 2 << abi::SYNC_DIRECTION_SHIFT;
    ioctl::set_sync_settings(fd, SyncArgs { flags, size: 2 * PAGE, offset: PAGE })?;
    let stored = ioctl::sync_settings(fd)?;
    ensure!(stored.size == 2 * PAGE && stored.offset == PAGE, "stored: {stored:?}");
    ensure!(stored.flags & flags == flags, "stored: {:#x}", stored.flags);
    ioctl::set_sync_settings(fd, before)?;

    ioctl::sync_value_for_device(fd, PAGE << 32 | PAGE | 1)?;
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_DEVICE, "not the device's");
    ioctl::sync_value_for_cpu(fd, PAGE << 32 | PAGE | 1)?;
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "not the CPU's");

    let mut range = SyncRange { offset: 0, size: PAGE, command: 3, direction: 1 };
    ioctl::sync_batch(fd, &[range, SyncRange { offset: PAGE, ..range }])?;
    range.command = 1;
    ioctl::sync_batch(fd, &[range])?;
    range.offset = info.size + PAGE;
    ensure!(ioctl::sync_batch(fd, &[range]).is_err(), "a batch beyond the end");
    ioctl::sync_for_cpu(fd, Direction::Bidirectional, 0, info.size)?;

    // The bytes of the export are those of the buffer.
    let (export, addr) =
        ioctl::export(fd, OFlags::RDWR | OFlags::CLOEXEC, PAGE, PAGE).context("export")?;
    ensure!(addr == info.dma_addr + PAGE, "exported at {addr:#x}");
    ensure!(dma_buf::size(export.as_fd())? == PAGE, "another size");
    drop(export);

    // x86 has one way to map memory, and RISC-V may have.
    let refused = ioctl::set_map_mode(fd, abi::MAP_UNCACHED) == Err(Errno::OPNOTSUPP);
    let able = cfg!(any(target_arch = "aarch64", target_arch = "arm")) || has_svpbmt()?;
    ensure!(refused != able, "uncached: refused {refused}, possible {able}");
    ioctl::set_map_mode(fd, abi::MAP_CACHED)?;
    drop(Mapping::new(fd, PAGE.try_into()?)?);
    ioctl::set_map_mode(fd, abi::MAP_BY_FLAGS)?;

    ioctl::claim_range(fd, 0, PAGE, false).context("claim of a range")?;
    drop(file);
    let file = open(name)?;
    ioctl::claim(file.as_fd(), false).context("claim")?;
    Ok(format!("every command, {} bits", usize::BITS))
}

/// In another process, perhaps of another architecture.
pub(crate) fn report(name: &str) -> ExitCode {
    match every(name) {
        Ok(detail) => println!("{detail}"),
        Err(error) => {
            println!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

pub(crate) fn from_32_bits(name: &str) -> Result<String> {
    let output = Command::new("/guest32").args(["commands", name]).output().context("/guest32")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    ensure!(said.ends_with("32 bits"), "{said}");
    Ok(said)
}
