//! Open files that other processes have, too: children that use what they inherit, and
//! descriptors that lie in a socket for a moment.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::AsFd,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{WaitOptions, wait},
};
use udmabuf_sys::abi;

use super::{
    arena::{PAGE, Place},
    model::Id,
    raw::{self, MAP_SHARED, Outcome, PROT_READ, PROT_WRITE},
    run::{Fuzz, done},
};

impl Fuzz {
    /// A child that inherits everything, gives up what is mapped, and writes through
    /// the file: with a system call, and through a mapping that ends with it.
    pub(crate) fn fork(&mut self, file: Id, value: u8) -> Result<Outcome> {
        let one = &self.model.files[&file];
        let (life, memory) = (one.life, self.model.kind_of(file).memory());
        let usable = one.read
            && one.write
            && !self.model.life_of(file).gone
            && self.model.check_claims(life, Some(file), 0, memory).is_ok();
        let fd = one.fd.as_ref().filter(|_| usable);
        let address = self.arena.address(Place::Good(0));
        let pieces = &self.model.pieces;
        raw::in_a_child(|| {
            for piece in pieces.values() {
                let _ = raw::unmap(piece.address, piece.len);
            }
            let Some(fd) = fd.map(AsFd::as_fd) else { return 0 };
            raw::set(address, value);
            if raw::transfer(fd, true, Some(0), address, 1) != Ok(1) {
                return 1;
            }
            if raw::control(fd, abi::GET_SYNC, address) != Ok(0) {
                return 2;
            }
            let Ok(mapped) = raw::map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 0, PAGE) else {
                return 3;
            };
            if raw::get(mapped) != value {
                return 4;
            }
            raw::set(mapped + 1, value);
            0
        })?;
        let (_, status) =
            retry_on_intr(|| wait(WaitOptions::empty()))?.context("there is no child")?;
        let usable = fd.is_some();
        ensure!(status.exit_status() == Some(0), "the child found something wrong: {status:?}");
        if let Some(life) = self.model.lives.get_mut(&life).filter(|_| usable) {
            life.bytes[..2].fill(value);
        }
        Ok(done())
    }

    /// The descriptor goes into a socket, and nowhere else; another one comes out, or
    /// the socket goes with it.
    pub(crate) fn pass(&mut self, file: Id, drop_it: bool) -> Result<Outcome> {
        let Some(one) = self.model.files.get_mut(&file) else { return Ok(done()) };
        let Some(fd) = one.fd.take() else { return Ok(done()) };
        let (from, to) = socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        ensure!(message.push(SendAncillaryMessage::ScmRights(&fds)), "no room");
        sendmsg(&from, &[IoSlice::new(b".")], &mut message, SendFlags::empty())?;
        drop(fd);
        if drop_it {
            drop((from, to));
            self.model.settle(file);
            return Ok(done());
        }
        let (mut space, mut byte) =
            ([MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))], [0]);
        let mut message = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&to, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
        let received = message.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        one.fd = Some(received.ok_or(Errno::BADF).context("nothing came out of the socket")?);
        Ok(done())
    }
}
