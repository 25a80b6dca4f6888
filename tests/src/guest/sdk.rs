//! What the crate `udmabuf` adds to the module, on the module's buffers.
#![allow(unsafe_code, reason = "takes back by hand what no device was given")]

use std::{
    fs,
    os::fd::AsFd,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use udmabuf::{
    Buffer, CpuOwned, CpuParts, CreateOptions, DeviceOwned, Direction, DmaAddr, Error, FromDevice,
    Mapped, OpenOptions, Parts, Progress, Ring, Shared, Stream, ToDevice, Uncached, WriteCombined,
    devices,
};

use super::{
    Pair, Tests, allocations, claims::crash, errors::says, memory_types::has_svpbmt, module::CLASS,
};

pub(crate) fn tests(run: &mut Tests, board: &str, plain: &'static str, coherent: Option<Pair>) {
    for name in [Some(plain), coherent.map(|pair| pair[0])].into_iter().flatten() {
        for (how, open) in HOW {
            run.test(&format!("sdk parts of {name}{how}"), || parts(name, open));
            run.test(&format!("sdk batches of {name}{how}"), || batches(name, open));
            run.test(&format!("sdk ring in {name}{how}"), || ring(name, open));
        }
        run.test(&format!("sdk maintenance of {name}"), || maintenance(name));
        run.test(&format!("sdk lent part of {name} remembered"), || remembered(name));
        run.test(&format!("sdk modes of {name}"), || modes(name));
        run.test(&format!("sdk shared {name}"), || shared(name));
        run.test(&format!("sdk export of {name}"), || export(name));
        run.test(&format!("sdk unclaimed {name}"), || unclaimed(name));
    }
    run.test("sdk created", created);
    run.test("sdk heap", || heap(board == "arm64-debug"));
}

type Open = fn(&str) -> Result<Buffer, Error>;

/// The cache is maintained by the program, where it can be, and by the kernel.
const HOW: [(&str, Open); 2] = [
    ("", Buffer::open),
    (", kept by the kernel", |name| OpenOptions::new().with_kernel_cache_maintenance().open(name)),
];

/// Syncs that the module counted while the buffer was handed over and taken back,
/// whole, and by batches of two and of all its pages.
fn syncs(name: &str, open: Open) -> Result<u64> {
    let before = synced(name)?;
    let (front, back) = take(open(name)?.into_device()?)?.split_at(4096)?;
    let lent = (front, back).into_device()?;
    // SAFETY: no device was given the address.
    let (front, back) = unsafe { lent.into_cpu() }?;
    // Those that follow each other are one.
    let lent = front.join(back)?.into_chunks(4096)?.into_device()?;
    // SAFETY: as above.
    drop(unsafe { lent.into_cpu() }?);
    Ok(synced(name)? - before)
}

/// Ranges that the module has synced so far.
fn synced(name: &str) -> Result<u64> {
    let read = |way| fs::read_to_string(format!("{CLASS}/{name}/counters/ranges_for_{way}"));
    Ok(read("device")?.trim().parse::<u64>()? + read("cpu")?.trim().parse::<u64>()?)
}

/// Who maintains the cache is who was asked to, and whoever does not is not asked.
fn maintenance(name: &str) -> Result<String> {
    let is_coherent = Buffer::open(name)?.is_coherent();
    let [own, kernels] = HOW.map(|(_, open)| syncs(name, open));
    let (own, kernels) = (own?, kernels?);
    let by_own = if is_coherent || cfg!(target_arch = "aarch64") { 0 } else { 8 };
    let by_kernels = if is_coherent { 0 } else { 8 };
    ensure!((own, kernels) == (by_own, by_kernels), "{own} and {kernels} ranges were synced");
    if !has_modes(name)? {
        return Ok(format!("{own} and {kernels} ranges synced by the module"));
    }
    // On 32-bit ARM an outer cache may have what was write-combined.
    let combined = OpenOptions::new().write_combined();
    let before = synced(name)?;
    drop(take(combined.open(name)?.into_device()?)?);
    let combined_syncs = synced(name)? - before;
    let is_arm = cfg!(target_arch = "arm");
    let expected = if is_arm { 2 } else { 0 };
    ensure!(combined_syncs == expected, "{combined_syncs} ranges were synced, write-combined");
    let shared = combined.open(name)?.into_shared().map_err(|refused| refused.error);
    ensure!(shared.is_err() == is_arm, "shared, write-combined: {shared:?}");
    if let Ok(shared) = shared {
        // SAFETY: no device was given the address.
        drop(unsafe { Buffer::<Shared, _, _>::into_cpu(shared) }?);
    }
    Ok(format!("{own}, {kernels} and {combined_syncs} ranges synced by the module"))
}

fn take<D: Direction, M: udmabuf::CacheMode>(
    buffer: Buffer<DeviceOwned, D, M>,
) -> Result<Buffer<CpuOwned, D, M>> {
    // SAFETY: no device was given the address.
    Ok(unsafe { buffer.into_cpu() }?)
}

fn is_device_owned(name: &str) -> Result<bool> {
    let found = devices()?.context("no module")?;
    let device = found.iter().find(|device| device.name == name).context("not in the list")?;
    device.is_device_owned.context("no owner in the list")
}

fn parts(name: &str, open: Open) -> Result<String> {
    let buffer = open(name)?;
    let (len, line) = (buffer.len(), buffer.part_alignment());
    // Of one byte, where nothing but a coherent cache exists.
    let (message, buffer) = match buffer.split_at(line + 1) {
        Err(refused) => (says(&refused.error, &[&(2 * line).to_string()])?, refused.value),
        Ok((front, back)) if line == 1 => ("anywhere".into(), front.join(back)?),
        Ok(_) => bail!("split inside a line"),
    };
    let line = line.max(64);
    let (mut front, back) = buffer.split_at(line)?;

    let before = back.into_device()?;
    front.as_mut_slice().fill(0x5a);
    ensure!(before.dma_addr().len() == (len - line) as u64, "the part's address range");
    let front = front.for_direction::<ToDevice>();
    let front = take(take(front.into_device()?)?.into_device()?)?;
    ensure!(front.as_slice().iter().all(|&byte| byte == 0x5a), "the part's bytes");

    let whole = front.for_direction().join(take(before)?)?;
    ensure!(whole.len() == len && whole.as_slice()[0] == 0x5a, "joined: {whole:?}");
    Ok(message)
}

/// In another process: ends while one part of many is lent.
pub(crate) fn abandon_part(name: &str) -> ExitCode {
    let lend = || -> Result<Buffer<DeviceOwned>> {
        let mut parts = Buffer::open(name)?.into_chunks(4096)?.into_iter();
        let first = parts.next().context("no part")?.into_device()?;
        for part in parts {
            take(part.into_device()?)?;
        }
        Ok(first)
    };
    match lend() {
        Ok(part) => println!("lent {part:?}"),
        Err(error) => println!("not lent: {error:#}"),
    }
    ExitCode::SUCCESS
}

fn remembered(name: &str) -> Result<String> {
    // What is taken back is forgotten.
    drop(take(Buffer::open(name)?.into_device()?)?);
    ensure!(!is_device_owned(name)?, "taken back, and still the device's");

    let output = Command::new("/proc/self/exe").args(["abandon-part", name]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.starts_with("lent"), "{said}");
    ensure!(is_device_owned(name)?, "forgotten");
    let Err(error @ Error::StillDeviceOwned { .. }) = Buffer::open(name) else {
        bail!("opened a buffer that a device may still write");
    };
    // SAFETY: no device was ever given the address.
    drop(unsafe { Buffer::recover(name) }?);
    Buffer::open(name)?;
    says(&error, &[name])
}

/// A coherent device's memory is mapped with the cache alone.
fn has_modes(name: &str) -> Result<bool> {
    let able = cfg!(any(target_arch = "aarch64", target_arch = "arm")) || has_svpbmt()?;
    Ok(able && !Buffer::open(name)?.is_coherent())
}

fn modes(name: &str) -> Result<String> {
    fn check<M: Mapped>(name: &str, value: u8) -> Result<()> {
        let mut buffer = match OpenOptions::new().mapped::<M>().open(name) {
            Err(error @ Error::Unsupported { .. }) if !has_modes(name)? => {
                return says(&error, &[name, "cannot be mapped in that mode"]).map(drop);
            }
            buffer => buffer?,
        };
        let len = buffer.len();
        buffer.fill(0..len, value)?;
        buffer.copy_from(5, b"unaligned")?;
        buffer.write(64, 0x0102_0304_u32)?;
        let buffer = take(buffer.into_device()?)?;
        ensure!(buffer.is_equal(5, b"unaligned")?, "read back");
        drop(buffer);

        let buffer = take(Buffer::open(name)?.into_device()?)?;
        let bytes = buffer.as_slice();
        ensure!(&bytes[5..14] == b"unaligned" && *buffer.view::<u32>(64)? == 0x0102_0304, "bytes");
        ensure!(bytes[68..].iter().all(|&byte| byte == value), "filled with {value}");
        Ok(())
    }
    check::<WriteCombined>(name, 0x33)?;
    check::<Uncached>(name, 0x44)?;
    check::<udmabuf::Cached>(name, 0x55)?;

    let size = Buffer::open(name)?.len() as u64;
    OpenOptions::new().expect_size(size).open(name)?;
    let Err(error @ Error::WrongSize { .. }) = OpenOptions::new().expect_size(size + 1).open(name)
    else {
        bail!("another size was accepted");
    };
    says(&error, &[name, &size.to_string()])
}

fn shared(name: &str) -> Result<String> {
    if has_modes(name)? {
        let mut ring = match OpenOptions::new().uncached().open(name)?.into_shared() {
            Ok(ring) => ring,
            Err(error) => bail!("{error}"),
        };
        ring.write(8, 7_u64)?;
        ring.publish();
        ring.observe();
        ensure!(ring.read::<u64>(8)? == 7, "read back");
        // SAFETY: no device was given the address.
        drop(unsafe { Buffer::<Shared, _, _>::into_cpu(ring) }?);
    }

    let cached = Buffer::open(name)?;
    let is_coherent = cached.is_coherent();
    match cached.into_shared() {
        Ok(ring) if is_coherent => {
            // SAFETY: no device was given the address.
            drop(unsafe { Buffer::<Shared, _, _>::into_cpu(ring) }?);
            Ok("coherent".into())
        }
        Err(refused) if !is_coherent => says(&refused.error, &[name, "cache"]),
        other => bail!("coherent: {is_coherent}, but {other:?}"),
    }
}

fn batches(name: &str, open: Open) -> Result<String> {
    let mut parts = open(name)?.into_chunks(4096)?;
    let count = parts.len();
    for round in 0..3 {
        for part in &mut parts {
            part.as_mut_slice().fill(round);
        }
        let lent = parts.into_device()?;
        // SAFETY: no device was given the address.
        parts = unsafe { lent.into_cpu() }?;
        ensure!(parts.iter().all(|part| part.as_slice()[4095] == round), "round {round}");
    }
    drop(parts);
    ensure!(!is_device_owned(name)?, "taken back, and still the device's");
    Ok(format!("{count} parts"))
}

/// Accesses nothing, and is done at once.
struct Nothing;

// SAFETY: there is no device.
unsafe impl Stream for Nothing {
    type Error = std::convert::Infallible;
    type Direction = FromDevice;

    unsafe fn submit(&mut self, _: DmaAddr) -> Result<(), Self::Error> {
        Ok(())
    }

    fn poll(&mut self) -> Progress<Self::Error> {
        Progress::Finished
    }

    fn park(&mut self, _: Instant) -> Result<(), Self::Error> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Once a ring is made, it allocates nothing.
fn ring(name: &str, open: Open) -> Result<String> {
    const ROUNDS: usize = 1000;
    let frames = open(name)?.for_direction::<FromDevice>().into_chunks(4096)?;
    let mut ring = Ring::new(Nothing, frames)?;
    let before = allocations::count();
    while ring.submit().is_ok() {}
    let in_flight = ring.in_flight();
    for _ in 0..ROUNDS {
        ring.complete(Duration::ZERO)?;
        ring.submit()?;
    }
    let allocations = allocations::count() - before;
    ensure!(allocations == 0, "{allocations} allocations");
    ensure!(ring.in_flight() == in_flight, "{} parts in flight", ring.in_flight());
    Ok(format!("{ROUNDS} parts, {in_flight} in flight, no allocation"))
}

fn export(name: &str) -> Result<String> {
    let (mut front, back) = Buffer::open(name)?.split_at(8192)?;
    front.as_mut_slice().fill(1);
    let exported = front.into_device()?.export()?;

    let fd = exported.as_fd().try_clone_to_owned()?;
    // SAFETY: nobody else accesses it; the address is the exported range's.
    let mut imported = unsafe { Buffer::import_at(fd, exported.dma_addr().to_u64()) }?;
    ensure!(imported.len() == 8192 && imported.as_slice() == [1; 8192], "{imported:?}");
    imported.as_mut_slice().fill(2);
    let imported = imported.into_device()?;
    ensure!(imported.dma_addr() == exported.dma_addr(), "the address");
    let Err(whole) = take(imported)?.split_at(4096) else { bail!("a dma-buf was split") };
    drop(whole);
    // SAFETY: the only importer is gone.
    let front = take(unsafe { exported.into_buffer() })?;
    ensure!(front.as_slice() == [2; 8192], "what the importer wrote");

    // Not whole pages.
    let line = front.part_alignment().max(64);
    let (odd, rest) = front.join(back)?.split_at(line)?;
    let Err(refused) = odd.into_device()?.export() else { bail!("{line} bytes were exported") };
    let message = refused.to_string();
    take(refused.value)?.join(rest)?;
    Ok(message)
}

/// As on a driver without claims: a lock, and handovers that are no secret.
fn unclaimed(name: &str) -> Result<String> {
    let options = OpenOptions::new();
    // SAFETY: nobody else uses it, and no device does.
    let mut buffer = unsafe { options.open_unclaimed(name) }?;
    // SAFETY: as above.
    let Err(error @ Error::Busy { .. }) = (unsafe { options.open_unclaimed(name) }) else {
        bail!("opened twice");
    };
    ensure!(matches!(Buffer::open(name), Err(Error::Busy { .. })), "claimed beside it");
    buffer.as_mut_slice().fill(6);
    let parts = buffer.into_chunks(4096)?.into_device()?;
    // SAFETY: no device was given the address.
    let parts = unsafe { parts.into_cpu() }?;
    ensure!(parts.iter().all(|part| part.as_slice() == [6; 4096]), "the bytes");
    drop(parts);

    let own = OpenOptions::new().with_own_cache_maintenance();
    // SAFETY: nobody else uses it, and no device does.
    match unsafe { own.open_unclaimed(name) } {
        Ok(buffer) => drop(take(buffer.into_device()?)?),
        Err(Error::Unsupported { .. }) if !cfg!(target_arch = "aarch64") => {}
        Err(error) => bail!("{error}"),
    }
    if has_modes(name)? {
        // SAFETY: as above.
        let uncached = unsafe { OpenOptions::new().uncached().open_unclaimed(name) }?;
        ensure!(uncached.is_equal(0, &[6; 64])?, "uncached");
    }
    says(&error, &[name])
}

fn created() -> Result<String> {
    let listed = || -> Result<bool> {
        Ok(devices()?.context("no module")?.iter().any(|device| device.name == "sdk-made"))
    };
    let created = CreateOptions::new("sdk-made", 65536).create()?;
    let Err(taken) = CreateOptions::new("sdk-made", 4096).create() else { bail!("made twice") };
    let buffer = created.open()?;
    ensure!(buffer.len() == 65536 && listed()?, "{buffer:?}");
    let Err(busy) = created.delete() else { bail!("deleted while open") };
    ensure!(matches!(busy.error, Error::Busy { .. }), "{busy}");
    drop(busy.value);
    ensure!(listed()?, "deleted under an open buffer");
    drop(buffer);
    ensure!(!listed()?, "not deleted with its last user");

    let created = CreateOptions::new("sdk-made", 8192).dma_mask(32).create()?;
    drop(created.open_with(&OpenOptions::new().expect_size(8192))?);
    // Another process ended with a part at a device.
    crash("sdk-made", "range")?;
    let Err(kept) = created.delete() else { bail!("deleted what a device may still write") };
    ensure!(matches!(kept.error, Error::StillDeviceOwned { .. }), "{kept}");
    ensure!(listed()?, "deleted all the same");
    // SAFETY: no device was given the address.
    drop(unsafe { Buffer::recover("sdk-made") }?);
    if let Err(kept) = kept.value.delete() {
        bail!("{kept}");
    }
    ensure!(!listed()?, "not deleted");
    says(&taken, &["create", "sdk-made"])
}

/// Not every kernel has heaps; that of one board is made with them.
fn heap(has_heaps: bool) -> Result<String> {
    match Buffer::from_heap("system", 10_000) {
        Ok(mut buffer) => {
            buffer.as_mut_slice().fill(3);
            let buffer = buffer.into_device()?;
            let fd = buffer.as_fd().try_clone_to_owned()?;
            // SAFETY: the other half of it is the device's, which there is not.
            let imported = unsafe { Buffer::import(fd) }?;
            ensure!(imported.as_slice()[..10_000] == [3; 10_000], "the bytes");
            drop(imported);
            let buffer = take(buffer)?;
            Ok(format!("{buffer:?}"))
        }
        Err(error) => {
            ensure!(!has_heaps, "{error}");
            let Error::Os { source, .. } = &error else { bail!("{error}") };
            let errno = Errno::from_io_error(source);
            ensure!(errno == Some(Errno::NOENT), "{error}: {source}");
            says(&error, &["/dev/dma_heap/system"])
        }
    }
}
