//! The ring of descriptors, in memory that the driver shares with the core.
#![allow(unsafe_code, reason = "takes the memory back from a core that is at rest")]

use std::fmt;

use udmabuf::{Addressed, Bidirectional, Buffer, CpuOwned, DmaAddr, Handoff, Shared};

use super::{
    Error,
    build::{Build, Part},
    registers::{DESCRIPTOR_LEN, DescriptorControl, DescriptorStatus, descriptor},
};

/// Memory for descriptors, however it is mapped.
pub(super) trait Memory: fmt::Debug + Send {
    fn dma_addr(&self) -> DmaAddr;
    fn read(&self, offset: usize) -> Result<u32, udmabuf::Error>;
    fn write(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error>;
    fn publish(&self);
    fn observe(&self);

    /// Gives the memory free.
    ///
    /// # Safety
    /// The core no longer accesses it.
    unsafe fn release(self: Box<Self>);
}

impl<M: Addressed> Memory for Buffer<Shared, Bidirectional, M> {
    fn dma_addr(&self) -> DmaAddr {
        self.dma_addr()
    }
    fn read(&self, offset: usize) -> Result<u32, udmabuf::Error> {
        self.read(offset).map(u32::from_le)
    }
    fn write(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error> {
        self.write(offset, word.to_le())
    }
    fn publish(&self) {
        self.publish();
    }
    fn observe(&self) {
        self.observe();
    }
    unsafe fn release(self: Box<Self>) {
        // Should it fail, the memory stays shared.
        // SAFETY: the caller's.
        let _ = unsafe { (*self).into_cpu() };
    }
}

/// Memory that was not taken, unless even taking it back has failed.
pub(super) type Returned<M> = Handoff<Option<Buffer<CpuOwned, Bidirectional, M>>, Error>;

/// Descriptors one behind the other, of which each names the next, and the last
/// the first.
#[derive(Debug)]
pub(super) struct Descriptors {
    memory: Box<dyn Memory>,
    build: Build,
    /// The length of each part, which the core could change in its descriptor.
    lengths: Vec<u32>,
}

impl Descriptors {
    /// As many as the memory has room for, once it is shared. It comes back if it
    /// cannot be, or if the core cannot reach it.
    pub(super) fn share<M: Addressed>(
        memory: Buffer<CpuOwned, Bidirectional, M>,
        build: Build,
    ) -> Result<Self, Returned<M>> {
        let memory = memory.into_shared().map_err(|Handoff { error, value }| Handoff {
            error: error.into(),
            value: Some(value),
        })?;
        if let Err(error) = check(memory.dma_addr(), build) {
            // SAFETY: the core has not been told of it.
            let value = unsafe { memory.into_cpu() }.ok();
            return Err(Handoff { error, value });
        }
        Ok(Self::new(Box::new(memory), build))
    }

    /// As many as this memory has room for, which the core can reach.
    pub(super) fn new(memory: Box<dyn Memory>, build: Build) -> Self {
        let room = usize::try_from(memory.dma_addr().len()).unwrap_or(usize::MAX);
        Self { memory, build, lengths: vec![0; room / DESCRIPTOR_LEN] }
    }

    pub(super) fn count(&self) -> usize {
        self.lengths.len()
    }

    /// The descriptor that comes `steps` after this one.
    pub(super) fn after(&self, index: usize, steps: usize) -> usize {
        (index + steps) % self.count()
    }

    /// Low and high word of a descriptor's address.
    pub(super) fn address(&self, index: usize) -> Result<(u32, u32), Error> {
        let start = (index * DESCRIPTOR_LEN) as u64;
        let range = start..start + DESCRIPTOR_LEN as u64;
        Ok(self.memory.dma_addr().slice(range)?.to_words(self.build.addr_bits)?)
    }

    /// Describes a part, not processed yet.
    pub(super) fn describe(
        &mut self,
        index: usize,
        next: usize,
        part: Part,
        flags: DescriptorControl,
    ) -> Result<(), Error> {
        let next = self.address(next)?;
        let start = index * DESCRIPTOR_LEN;
        for (word, value) in [
            (descriptor::NEXT, next.0),
            (descriptor::NEXT_MSB, next.1),
            (descriptor::ADDRESS, part.address.0),
            (descriptor::ADDRESS_MSB, part.address.1),
            (descriptor::CONTROL, flags.0 | part.length),
            (descriptor::STATUS, 0),
        ] {
            self.memory.write(start + word, value)?;
        }
        if let Some(length) = self.lengths.get_mut(index) {
            *length = part.length;
        }
        Ok(())
    }

    /// What was described is in memory before any register is written.
    pub(super) fn publish(&self) {
        self.memory.publish();
    }

    /// The status and the part's length, once the core has processed it: what it
    /// wrote before is there.
    pub(super) fn completed(&self, index: usize) -> Result<Option<(DescriptorStatus, u32)>, Error> {
        let status = self.memory.read(index * DESCRIPTOR_LEN + descriptor::STATUS)?;
        let status = DescriptorStatus(status);
        if !status.get(DescriptorStatus::COMPLETE) {
            return Ok(None);
        }
        self.memory.observe();
        Ok(Some((status, self.lengths.get(index).copied().unwrap_or(0))))
    }

    /// Marks a descriptor as not processed.
    pub(super) fn clear(&mut self, index: usize) -> Result<(), Error> {
        Ok(self.memory.write(index * DESCRIPTOR_LEN + descriptor::STATUS, 0)?)
    }

    /// Gives the memory free.
    ///
    /// # Safety
    /// The core no longer accesses it.
    pub(super) unsafe fn release(self) {
        // SAFETY: the caller's.
        unsafe { self.memory.release() }
    }
}

/// Whether a core can have its descriptors there.
fn check(addr: DmaAddr, build: Build) -> Result<(), Error> {
    addr.to_words(build.addr_bits)?;
    let (value, align) = (addr.to_u64(), DESCRIPTOR_LEN as u64);
    if value % align != 0 {
        return Err(Error::Misaligned { what: "descriptor address", value, align });
    }
    match addr.len() < align {
        true => Err(Error::TooFewDescriptors { parts: 1, descriptors: 0 }),
        false => Ok(()),
    }
}
