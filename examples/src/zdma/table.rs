//! The descriptors of lists, in memory that the CPU shares with the channel.
#![allow(unsafe_code, reason = "takes the memory back from a channel that is at rest")]

use std::{fmt, mem::offset_of};

use udmabuf::{Addressed, Bidirectional, Buffer, DmaAddr, Shared};
use zerocopy::{Immutable, IntoBytes};

use super::{
    Error,
    registers::{
        ADDR_BITS, COMMAND_NEXT, COMMAND_STOP, CONTROL_COHERENT, CONTROL_COMMAND, CONTROL_LINKED,
        MAX_LEN,
    },
};

/// A linked descriptor: AM011, "Buffer Descriptor Format", in the byte order of
/// the CPU, which on these chips under Linux is that of the channel.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Descriptor {
    addr: u64,
    size: u32,
    control: u32,
    next: u64,
    reserved: u64,
}

/// Bytes of a descriptor, and what its address has to be a multiple of.
pub const DESCRIPTOR_LEN: usize = size_of::<Descriptor>();

/// Memory for descriptors, however it is mapped.
pub(super) trait Memory: fmt::Debug + Send {
    fn dma_addr(&self) -> DmaAddr;
    fn is_coherent(&self) -> bool;
    fn write(&mut self, offset: usize, descriptor: Descriptor) -> Result<(), udmabuf::Error>;
    fn word(&self, offset: usize) -> Result<u32, udmabuf::Error>;
    fn write_word(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error>;
    fn publish(&self);

    /// Gives the memory free.
    ///
    /// # Safety
    /// The channel no longer accesses it.
    unsafe fn release(self: Box<Self>);
}

impl<M: Addressed> Memory for Buffer<Shared, Bidirectional, M> {
    fn dma_addr(&self) -> DmaAddr {
        self.dma_addr()
    }
    fn is_coherent(&self) -> bool {
        self.is_coherent()
    }
    fn write(&mut self, offset: usize, descriptor: Descriptor) -> Result<(), udmabuf::Error> {
        self.write(offset, descriptor)
    }
    fn word(&self, offset: usize) -> Result<u32, udmabuf::Error> {
        self.read(offset)
    }
    fn write_word(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error> {
        self.write(offset, word)
    }
    fn publish(&self) {
        self.publish();
    }
    unsafe fn release(self: Box<Self>) {
        // Should it fail, the memory stays shared.
        // SAFETY: the caller's.
        let _ = unsafe { (*self).into_cpu() };
    }
}

/// One side's part of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) addr: DmaAddr,
    pub(super) is_coherent: bool,
}

/// Memory with the descriptors of a list: first those of the sources, then those
/// of the destinations. The last of each names its first as the next one, so
/// that a channel that reads ahead finds descriptors.
#[derive(Debug)]
pub(super) struct Table {
    memory: Box<dyn Memory>,
    /// Source descriptors of the list that was written last.
    sources: usize,
}

impl Table {
    /// Whether a channel can have its descriptors there.
    pub(super) fn check(addr: DmaAddr) -> Result<(), Error> {
        addr.to_words(ADDR_BITS)?;
        match addr.to_u64() % DESCRIPTOR_LEN as u64 {
            0 => Ok(()),
            _ => Err(Error::TableMisaligned(addr.to_u64())),
        }
    }

    /// A table in memory that [`check`](Self::check) has accepted.
    pub(super) fn new(memory: Box<dyn Memory>) -> Self {
        Self { memory, sources: 0 }
    }

    pub(super) fn is_coherent(&self) -> bool {
        self.memory.is_coherent()
    }

    /// Writes a list, after each part of which the channel does `command`, and
    /// says where the first source and the first destination descriptor are.
    pub(super) fn write(
        &mut self,
        sources: &[Part],
        destinations: &[Part],
        command: u32,
    ) -> Result<[DmaAddr; 2], Error> {
        let needed = (sources.len() + destinations.len()) * DESCRIPTOR_LEN;
        let room = usize::try_from(self.memory.dma_addr().len()).unwrap_or(usize::MAX);
        if needed > room {
            return Err(Error::TableTooSmall { needed, room });
        }
        // What is not written is not commanded.
        self.sources = 0;
        self.write_side(0, sources, command, COMMAND_STOP)?;
        self.write_side(sources.len(), destinations, 0, 0)?;
        self.sources = sources.len();
        self.memory.publish();
        Ok([self.addr(0)?, self.addr(sources.len())?])
    }

    fn write_side(
        &mut self,
        first: usize,
        parts: &[Part],
        command: u32,
        last_command: u32,
    ) -> Result<(), Error> {
        for (number, part) in parts.iter().enumerate() {
            let is_last = number + 1 == parts.len();
            let next = if is_last { first } else { first + number + 1 };
            let coherent = if part.is_coherent { CONTROL_COHERENT } else { 0 };
            let command = if is_last { last_command } else { command };
            part.addr.to_words(ADDR_BITS)?;
            let descriptor = Descriptor {
                addr: part.addr.to_u64(),
                size: size(part.addr.len())?,
                control: CONTROL_LINKED | coherent | command,
                next: self.addr(next)?.to_u64(),
                reserved: 0,
            };
            self.memory.write((first + number) * DESCRIPTOR_LEN, descriptor)?;
        }
        Ok(())
    }

    /// From now on the channel does `command` after each part but the last, if it
    /// has not read that part's descriptor yet.
    pub(super) fn command(&mut self, command: u32) -> Result<(), Error> {
        for number in 0..self.sources.saturating_sub(1) {
            let offset = number * DESCRIPTOR_LEN + offset_of!(Descriptor, control);
            let control = self.memory.word(offset)? & !CONTROL_COMMAND;
            self.memory.write_word(offset, control | command)?;
        }
        self.memory.publish();
        Ok(())
    }

    fn addr(&self, number: usize) -> Result<DmaAddr, Error> {
        let start = (number * DESCRIPTOR_LEN) as u64;
        Ok(self.memory.dma_addr().slice(start..start + DESCRIPTOR_LEN as u64)?)
    }

    /// Gives the memory free.
    ///
    /// # Safety
    /// The channel no longer accesses it.
    pub(super) unsafe fn release(self) {
        // SAFETY: the caller's.
        unsafe { self.memory.release() }
    }
}

/// What goes into a size field.
pub(super) fn size(len: u64) -> Result<u32, Error> {
    u32::try_from(len).ok().filter(|&len| len <= MAX_LEN).ok_or(Error::TooLong(len))
}

const _: () = assert!(DESCRIPTOR_LEN == 32 && COMMAND_NEXT == 0);
