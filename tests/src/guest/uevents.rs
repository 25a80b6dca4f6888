//! What the kernel tells udev of.

use anyhow::{Result, ensure};
use rustix::{
    io::{Errno, read},
    net::{
        AddressFamily, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        socket_with,
    },
};

use super::manager::Created;

/// Of a buffer that is made at run time, once: rules for its file need it. And not of the
/// platform device behind it.
pub(crate) fn told() -> Result<String> {
    const KERNEL: u32 = 1;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
    drop(Created::new("m_told", 4096, "")?);

    let mut told = Vec::new();
    let mut message = [0; 8192];
    loop {
        match read(&socket, &mut message) {
            Ok(len) => told.push(String::from_utf8_lossy(&message[..len]).into_owned()),
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // "add@PATH", then what a rule can ask for, each with a NUL behind it.
    for action in ["add", "remove"] {
        let of_it = told.iter().filter(|message| {
            let mut words = message.split('\0');
            let what = words.next().unwrap_or_default();
            let rest: Vec<_> = words.collect();
            what.starts_with(&format!("{action}@"))
                && what.ends_with("/u-dma-buf/m_told")
                && rest.contains(&"SUBSYSTEM=u-dma-buf")
                && rest.contains(&"DEVNAME=m_told")
        });
        ensure!(of_it.count() == 1, "not told once of its {action}: {told:?}");
    }
    let behind = told.iter().find(|message| {
        message.contains("\0DEVPATH=/devices/platform/u-dma-buf")
            && message.contains("\0SUBSYSTEM=platform\0")
    });
    ensure!(behind.is_none(), "{behind:?}");
    Ok("of the buffer alone".into())
}
