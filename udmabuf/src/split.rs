//! Parts of a buffer: each has its own owner and direction.

use crate::{Buffer, CacheMode, CpuOwned, Direction, Handoff, part::Part};

impl<D: Direction, M: CacheMode> Buffer<CpuOwned, D, M> {
    /// Splits the buffer at `offset` bytes: two buffers, each with its own owner
    /// and direction from now on, on whatever threads. The memory stays until
    /// the last part is dropped.
    ///
    /// ```
    /// use udmabuf::{FromDevice, ToDevice, emulator::Emulator};
    ///
    /// # let emulator = Emulator::new();
    /// let buffer = emulator.buffer(4096); // or Buffer::open("udmabuf0")?
    /// let (request, reply) = buffer.split_at(1024)?;
    /// let mut request = request.for_direction::<ToDevice>();
    /// let reply = reply.for_direction::<FromDevice>().into_device()?;
    /// request.as_mut_slice().fill(1); // while the device fills the other
    /// assert_eq!((request.len(), reply.len(), reply.offset()), (1024, 3072, 1024));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The buffer is in [`Handoff::value`], whole.
    /// [`Error::InsideLine`](crate::Error::InsideLine) names the next good
    /// offset: taking one part back would destroy what the CPU wrote beside it
    /// in the same cache line. [`Error::OutOfRange`](crate::Error::OutOfRange):
    /// a part would be empty.
    pub fn split_at(self, offset: usize) -> Result<(Self, Self), Handoff<Self>> {
        match self.into_part().split(offset) {
            Ok((front, back)) => Ok((Self::from_part(front), Self::from_part(back))),
            Err((error, part)) => Err(Handoff { error, value: Self::from_part(part) }),
        }
    }

    /// Splits the buffer into parts of `len` bytes, in order; the last one may
    /// be shorter.
    ///
    /// ```
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let frames = emulator.buffer(10_000).into_chunks(4096)?;
    /// assert_eq!(frames.iter().map(|frame| frame.len()).collect::<Vec<_>>(), [4096, 4096, 1808]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`split_at`](Self::split_at); the buffer is in [`Handoff::value`],
    /// whole. A `len` of at least the buffer's gives it back as the only part.
    pub fn into_chunks(self, len: usize) -> Result<Vec<Self>, Handoff<Self>> {
        let mut rest = self.into_part();
        if len != 0 && len >= rest.len() {
            return Ok(vec![Self::from_part(rest)]);
        }
        let mut parts: Vec<Part> = Vec::new();
        loop {
            match rest.split(len) {
                Ok((front, back)) => {
                    parts.push(front);
                    rest = back;
                }
                // If the first split was possible, all are.
                Err((error, whole)) => {
                    return Err(Handoff { error, value: Self::from_part(whole) });
                }
            }
            if rest.len() <= len {
                parts.push(rest);
                return Ok(parts.into_iter().map(Self::from_part).collect());
            }
        }
    }

    /// Joins this part with the one that starts where it ends.
    ///
    /// ```
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let (front, back) = emulator.buffer(4096).split_at(64)?;
    /// assert_eq!(front.join(back).unwrap().len(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotNeighbours`](crate::Error::NotNeighbours); both are in
    /// [`Handoff::value`].
    #[allow(clippy::result_large_err, reason = "it carries both parts, whatever their size")]
    pub fn join(self, next: Self) -> Result<Self, Handoff<(Self, Self)>> {
        match self.into_part().join(next.into_part()) {
            Ok(part) => Ok(Self::from_part(part)),
            Err((error, first, second)) => {
                let value = (Self::from_part(first), Self::from_part(second));
                Err(Handoff { error, value })
            }
        }
    }
}
