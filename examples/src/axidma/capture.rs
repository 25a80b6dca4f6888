//! Reading what a channel has received while it goes on.

#[cfg(test)]
mod tests;

use udmabuf::{Addressed, Buffer, FromDevice, Shared, Transfer};
use udmabuf_uio::Io;

use super::{Channel, Error, S2mm, Side, core::Core, lane::Flight};

/// How many parts a core may be ahead of what its descriptors say: PG021 has it
/// write their statuses from a queue (`DMACR`, bit RS), and does not say how long
/// that is. This is a guess, on the safe side.
const AHEAD: u64 = 4;

impl<I: Io> S2mm<I> {
    /// Copies what is at the start of a part that was received, while the channel
    /// [repeats](Self::repeat) its parts, which are [`Shared`] with it.
    ///
    /// `number` counts parts from 0, as [`Laps::parts`](super::Laps::parts) does.
    /// False if that part has not been received yet, or may have been written over
    /// before it was copied, as all may have been after an overrun; `into` then
    /// holds anything. Of a circle of parts, the last can be copied, and those
    /// before, but for the oldest five.
    ///
    /// ```
    /// # use std::{thread, time::Duration};
    /// # use udmabuf::{FromDevice, ToDevice, Uncached, emulator::Emulator};
    /// # use udmabuf_examples::axidma::{AxiDma, Build, Mode};
    /// # let emulator = Emulator::new();
    /// # let (AxiDma { mm2s, s2mm }, _) = AxiDma::emulated(&emulator, Build::LEAST, Mode::ScatterGather)?;
    /// # mm2s.use_descriptors(emulator.buffer_mapped::<Uncached>(64))?;
    /// # s2mm.use_descriptors(emulator.buffer_mapped::<Uncached>(8 * 64))?;
    /// // On a board: OpenOptions::new().uncached().open("udmabuf0")?
    /// let memory = emulator.buffer_mapped::<Uncached>(8 * 1024).for_direction::<FromDevice>();
    /// let parts: Result<Vec<_>, _> =
    ///     memory.into_chunks(1024)?.into_iter().map(|part| part.into_shared()).collect();
    /// let capturing = s2mm.repeat(parts?)?;
    /// # let packet = emulator.buffer(1024).for_direction::<ToDevice>().into_device()?;
    /// # mm2s.send(packet)?.wait(Duration::from_secs(1))?;
    ///
    /// let mut bytes = [7; 1024];
    /// while !s2mm.copy_part(&capturing, 0, &mut bytes)? {
    ///     thread::yield_now(); // or do something else
    /// }
    /// assert_eq!(bytes, [0; 1024]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Buffer`]: `into` is longer than the part; [`Error::Descriptor`].
    pub fn copy_part<M: Addressed>(
        &self,
        capturing: &Transfer<Channel<I>, Vec<Buffer<Shared, FromDevice, M>>>,
        number: u64,
        into: &mut [u8],
    ) -> Result<bool, Error> {
        let Some(index) = self.core().index_of(Side::S2mm, number)? else { return Ok(false) };
        let Some(part) = capturing.buffers().get(index) else { return Ok(false) };
        part.copy_to(0, into)?;
        part.observe(); // before it is asked again
        Ok(self.core().index_of(Side::S2mm, number)? == Some(index))
    }
}

impl<I: Io> Core<I> {
    /// Which part of a circle is this one, as long as it is not written over.
    fn index_of(&self, side: Side, number: u64) -> Result<Option<usize>, Error> {
        let mut state = self.lock();
        let lane = state.lane(side);
        let Flight::Cyclic { laps: before, count, .. } = lane.flight else { return Ok(None) };
        let following = (before.at + 1) % count;
        let is_ahead = lane.ring(side, count)?.completed(following)?.is_some();
        lane.collect(side)?;
        let Flight::Cyclic { laps, is_lost: false, .. } = lane.flight else { return Ok(None) };
        if is_ahead && laps.at == before.at {
            return Ok(None); // it was cleared, in an overrun, just when it was complete
        }
        let Some(age @ 1..) = laps.parts.checked_sub(number) else { return Ok(None) };
        let age = usize::try_from(age).ok().filter(|_| age + AHEAD < count as u64);
        Ok(age.map(|age| (laps.at + count - age) % count))
    }
}
