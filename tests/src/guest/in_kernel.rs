//! The functions for other modules, which `udb-peer.ko` calls.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::FileExt},
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::{io::Errno, mm::MapFlags};
use udmabuf_sys::ioctl;

use super::{
    Tests,
    manager::command,
    map::{Map, load_pages},
    module::{CLASS, bind, busybox, open, unbind, wait_for_removal},
    peer::{bind_driven, peek, peer, peer_must, results, unbind_driven, unload_peer},
};

pub(crate) fn tests(run: &mut Tests, board: &str) {
    run.test("in-kernel functions", functions);
    run.test("a driver's buffer for its device", of_a_driver);
    run.test("unbound under its maker", unbound);
    // Where a device tree has such a buffer.
    if board.starts_with("arm") {
        run.test("zero-between-users beside a kernel mapping", not_zeroed);
    }
}

/// The module that has mapped the buffer is one of its users.
fn not_zeroed() -> Result<String> {
    let name = "udmabuf_zeroed";
    let mut back = [0];
    open(name)?.write_all_at(&[1], 4095)?;
    peer_must(&format!("find {name}"))?;
    peer_must("getmap")?;
    open(name)?.read_exact_at(&mut back, 4095)?;
    let of_the_kernel = back[0];
    // A new buffer, that the kernel does not have mapped.
    bind(&unbind(name)?)?;
    unload_peer()?;
    open(name)?.write_all_at(&[1], 4095)?;
    open(name)?.read_exact_at(&mut back, 4095)?;
    ensure!(of_the_kernel == 1, "zeroed under the kernel");
    ensure!(back == [0], "not zeroed after it");
    Ok("the kernel's bytes stay".into())
}

/// Made as the driver probes its device, and there until the driver has stopped it.
fn of_a_driver() -> Result<String> {
    load_pages()?;
    peer_must("own inkernel 65536")?;
    for (is_open, expected) in [(true, Errno::BUSY.raw_os_error()), (false, 0)] {
        unbind_driven()?;
        bind_driven()?;
        let file = open("inkernel").context("made in a probe")?;
        let map = Map::new(&file, 4096, MapFlags::empty())?;
        map.set(100, 42);
        let user = is_open.then_some((file, map));
        unbind_driven()?;
        let [_, removed, found] = results()?;
        ensure!(found == 42, "in the end the driver finds {found}");
        ensure!(removed == u64::from(expected.unsigned_abs()), "removed by it: errno {removed}");
        ensure!(!fs::exists(format!("{CLASS}/inkernel"))?, "still there");
        if let Some((file, map)) = user {
            let gone = ioctl::size(file.as_fd());
            ensure!(gone == Err(Errno::NODEV), "still open: {gone:?}");
            ensure!(map.page(0)?.0 == "absent", "still mapped");
        }
        bind_driven()?;
    }
    unload_peer()?;
    ensure!(!fs::exists(format!("{CLASS}/inkernel"))?, "left by the module");
    Ok("removed by it, or after it".into())
}

/// By whoever: what a module made, it has until it lets go.
fn unbound() -> Result<String> {
    peer_must("create inkernel 65536 -1")?;
    peer_must("getmap")?;
    peer_must("poke 9 7")?;
    let waits = thread::scope(|scope| {
        let remover = scope.spawn(|| unbind("inkernel"));
        let outcome = wait_for_removal("inkernel").and_then(|()| peek(9));
        let waits = !remover.is_finished();
        // In any case, or the scope would wait for ever.
        peer_must("remove")?;
        remover.join().ok().context("panicked")??;
        ensure!(outcome? == 7, "other memory");
        anyhow::Ok(waits)
    })?;
    ensure!(waits, "removed under its maker");
    ensure!(peer("remove")? == Errno::INVAL.raw_os_error(), "removed twice");
    unload_peer()?;
    Ok("waits for it".into())
}

fn functions() -> Result<String> {
    peer_must("bus platform")?;
    ensure!(peer("bus usb")? == Errno::NOENT.raw_os_error(), "the bus usb");
    for (wrong, expected) in [
        ("create another 4096 0", Errno::BUSY),
        ("create udmabuf0 4096 -1", Errno::EXIST),
        ("create ../zz 4096 -1", Errno::INVAL),
        ("create another 0 -1", Errno::INVAL),
        ("create another 4096 256", Errno::INVAL),
        // A mapping mode that there is not, and a parent without a driver.
        ("option another 5120", Errno::INVAL),
        ("option another 7168", Errno::INVAL),
        ("orphan another", Errno::INVAL),
    ] {
        let errno = peer(wrong)?;
        ensure!(errno == expected.raw_os_error(), "{wrong}: errno {errno}");
    }
    peer_must("create inkernel 65536 200")?;
    let file = open("inkernel").context("created by a module")?;
    ensure!(ioctl::size(file.as_fd())? == 65536, "another size");
    peer_must("search inkernel -1")?;
    peer_must("search - 200")?;
    peer_must("search inkernel 200")?;
    ensure!(peer("search inkernel 201")? == Errno::NODEV.raw_os_error(), "found by two names");
    ensure!(peer("search nobody -1")? == Errno::NODEV.raw_os_error(), "found nobody");

    file.write_at(&[42], 60000)?;
    ioctl::claim_range(file.as_fd(), 4096, 4096, false)?;
    ensure!(peer("getmap")? == Errno::BUSY.raw_os_error(), "mapped what is claimed");
    drop(file);
    let file = open("inkernel")?;
    peer_must("getmap")?;
    ensure!(results()?[2] == 65536, "getmap gives another size");
    ensure!(peek(60000)? == 42, "another mapping");
    peer_must("poke 1 43")?;
    let mut read = [0; 1];
    file.read_at(&mut read, 1)?;
    ensure!(read == [43], "written elsewhere");
    for (sync, expected) in [
        ("sync 2 1 0 4096", 0),
        ("sync 1 2 4096 4096", 0),
        ("sync 1 9 0 0", 0),
        ("sync 0 0 0 65536", 0),
        ("sync 2 0 65536 64", Errno::INVAL.raw_os_error()),
        ("sync 2 0 18446744073709547520 8192", Errno::INVAL.raw_os_error()),
        ("sync 3 0 0 64", Errno::INVAL.raw_os_error()),
    ] {
        let errno = peer(sync)?;
        ensure!(errno == expected, "{sync}: errno {errno}");
    }
    // A kernel user is a user; nobody else's command removes it.
    let claimed = ioctl::claim(file.as_fd(), false);
    ensure!(claimed == Err(Errno::BUSY), "claimed beside the kernel: {claimed:?}");
    let claimed = ioctl::claim_range(file.as_fd(), 0, 4096, false);
    ensure!(claimed == Err(Errno::BUSY), "a range beside the kernel: {claimed:?}");
    ensure!(command("delete inkernel\n")? == Errno::INVAL.raw_os_error(), "deleted by text");
    ensure!(peer("remove")? == Errno::BUSY.raw_os_error(), "removed while open");
    ensure!(busybox("rmmod", &["u_dma_buf"]).is_err(), "unloaded under its user");
    drop(file);
    peer_must("remove")?;
    ensure!(!fs::exists(format!("{CLASS}/inkernel"))?, "still there");
    ensure!(peer("remove")? == Errno::INVAL.raw_os_error(), "removed twice");
    unload_peer()?;
    Ok("created, found, mapped, synced, removed".into())
}
