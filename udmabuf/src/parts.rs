//! Several buffers as one: what a transfer uses, and what is handed over at
//! once.
#![allow(unsafe_code, reason = "declares the unsafe way back of many parts, and turns them over")]

use std::{
    mem::ManuallyDrop,
    ops::ControlFlow::{self, Break, Continue},
};

use crate::{
    Buffer, CacheMode, CpuOwned, DeviceOwned, Direction, Engine, Handoff, Owner, Shared, barrier,
    batch::{self, Each, Piece},
    direction::Kind,
};

/// Buffers of the CPU that go to the device together: a tuple, an array or a
/// `Vec` of them.
///
/// On drivers that need a system call it is one for as many parts of a buffer as
/// follow each other (up to 64), where the driver has batches. Where it takes none,
/// those share a barrier; a vector is the cheapest, and turned over as it is.
///
/// ```
/// use udmabuf::{CpuParts, Parts, emulator::Emulator};
///
/// let frames = Emulator::new().buffer(4096).into_chunks(1024)?;
/// let frames = frames.into_device()?; // a Vec<Buffer<DeviceOwned>>
/// // SAFETY: there is no device.
/// let frames = unsafe { frames.into_cpu() }?;
/// assert_eq!(frames.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Sealed: only this crate can implement it.
pub trait CpuParts: Each + Sized {
    /// The same buffers, the device's.
    type Device: Parts<Cpu = Self>;

    /// Hands all of them to the device.
    ///
    /// # Errors
    /// Why the first failed; all are in [`Handoff::value`], still the CPU's.
    fn into_device(self) -> Result<Self::Device, Handoff<Self>> {
        if Self::COMBINES {
            barrier::drain_combined();
        }
        match batch::sync_for_device(&self) {
            Ok(()) => Ok(self.assume_device(sealed::Crate)),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// Whether the mapping of any combines writes.
    #[doc(hidden)]
    const COMBINES: bool;

    /// Turns them over, once they are synced.
    #[doc(hidden)]
    fn assume_device(self, _: sealed::Crate) -> Self::Device;

    /// The same for many.
    #[doc(hidden)]
    fn assume_device_all(all: Vec<Self>, by: sealed::Crate) -> Vec<Self::Device> {
        all.into_iter().map(|part| part.assume_device(by)).collect()
    }
}

/// The buffers of one transfer: a buffer, or a tuple, an array or a `Vec` of
/// them.
///
/// Sealed: only this crate can implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a device can use: its buffers have to be the device's",
    label = "needs `Buffer<DeviceOwned>`, or several of them",
    note = "hand it over first, with `into_device()`"
)]
pub trait Parts: Each + Sized {
    /// The same buffers, the CPU's again.
    type Cpu;

    /// Takes all of them back without a transfer that knows when the device is
    /// done.
    ///
    /// # Safety
    /// The device no longer accesses any of them, and has written only those that
    /// were handed over [`FromDevice`](crate::FromDevice) or
    /// [`Bidirectional`](crate::Bidirectional), or are [`Shared`].
    ///
    /// # Errors
    /// Why the first failed; all are in [`Handoff::value`], still the device's.
    unsafe fn into_cpu(self) -> Result<Self::Cpu, Handoff<Self>> {
        match batch::sync_for_cpu(&self) {
            Ok(()) => Ok(self.assume_cpu(sealed::Crate)),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// Turns them over, once they are synced.
    #[doc(hidden)]
    fn assume_cpu(self, _: sealed::Crate) -> Self::Cpu;

    /// The same for many.
    #[doc(hidden)]
    fn assume_cpu_all(all: Vec<Self>, by: sealed::Crate) -> Vec<Self::Cpu> {
        all.into_iter().map(|part| part.assume_cpu(by)).collect()
    }
}

/// Names the first whose bus addresses are not those of this engine.
pub(crate) fn check_bus<E: Engine>(parts: &impl Parts, engine: &E) -> Result<(), String> {
    let bus = engine.bus();
    let mut stranger = Ok(());
    let _ = parts.each(&mut |piece| {
        let memory = piece.first.memory();
        if memory.is_on(bus, |device| engine.reaches(device)) {
            return Continue(());
        }
        stranger = Err(memory.name.clone());
        Break(())
    });
    stranger
}

pub(crate) mod sealed {
    /// What nobody outside the crate can name.
    #[derive(Clone, Copy, Debug)]
    pub struct Crate;
}

macro_rules! buffers {
    ($($owner:ident: $kind:expr, $is_shared:literal;)*) => {$(
        impl<D: Direction, M: CacheMode> Each for Buffer<$owner, D, M> {
            #[inline]
            fn each<'a>(
                &'a self,
                visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>,
            ) -> ControlFlow<()> {
                Self::each_of(std::slice::from_ref(self), visit)
            }

            #[inline]
            fn each_of<'a>(
                all: &'a [Self],
                visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>,
            ) -> ControlFlow<()> {
                pieces(all, $kind, $is_shared, visit)
            }
        }
    )*};
}

buffers! {
    CpuOwned: D::KIND, false;
    DeviceOwned: D::KIND, false;
    Shared: Kind::Bidirectional, true;
}

/// Puts parts together that follow each other.
#[inline]
fn pieces<'a, O: Owner, D: Direction, M: CacheMode>(
    mut all: &'a [Buffer<O, D, M>],
    direction: Kind,
    is_shared: bool,
    visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while let [first, rest @ ..] = all {
        let first = first.part();
        let start = first.start().addr().get();
        let (left, end) = match !is_shared && first.memory().merges() {
            true => skip_following(all, start, first.memory().end()),
            false => (rest, first.bounds().1),
        };
        let (len, parts) = (end - start, all.len() - left.len());
        visit(Piece { first, len, parts, direction, is_shared })?;
        all = left;
    }
    Continue(())
}

/// What is left without the parts that follow each other from `end` on, and where those
/// end. Whatever starts before the end of the memory (`most`) is of it, as no two
/// memories have a byte in common.
#[inline]
fn skip_following<O: Owner, D: Direction, M: CacheMode>(
    mut all: &[Buffer<O, D, M>],
    mut end: usize,
    most: usize,
) -> (&[Buffer<O, D, M>], usize) {
    // By eights, which the compiler makes a few instructions for each.
    while let Some((eight, rest)) = all.split_first_chunk::<8>() {
        let follow = |end, one: &Buffer<O, D, M>| {
            let (start, its_end) = one.part().bounds();
            (start == end).then_some(its_end)
        };
        match eight.iter().try_fold(end, follow) {
            Some(last) if last <= most => (end, all) = (last, rest),
            _ => break,
        }
    }
    while let Some((one, rest)) = all.split_first() {
        let (start, its_end) = one.part().bounds();
        if start != end || start >= most {
            break;
        }
        (end, all) = (its_end, rest);
    }
    (all, end)
}

impl<D: Direction, M: CacheMode> Parts for Buffer<DeviceOwned, D, M> {
    type Cpu = Buffer<CpuOwned, D, M>;

    fn assume_cpu(self, _: sealed::Crate) -> Self::Cpu {
        Buffer::<DeviceOwned, D, M>::assume_cpu(self)
    }

    fn assume_cpu_all(all: Vec<Self>, _: sealed::Crate) -> Vec<Self::Cpu> {
        turn_over(all)
    }
}

impl<D: Direction, M: CacheMode> Parts for Buffer<Shared, D, M> {
    type Cpu = Buffer<CpuOwned, D, M>;

    fn assume_cpu(self, _: sealed::Crate) -> Self::Cpu {
        Buffer::<Shared, D, M>::assume_cpu(self)
    }

    fn assume_cpu_all(all: Vec<Self>, _: sealed::Crate) -> Vec<Self::Cpu> {
        turn_over(all)
    }
}

impl<D: Direction, M: CacheMode> CpuParts for Buffer<CpuOwned, D, M> {
    type Device = Buffer<DeviceOwned, D, M>;
    const COMBINES: bool = M::COMBINES;

    fn assume_device(self, _: sealed::Crate) -> Self::Device {
        Buffer::<CpuOwned, D, M>::assume_device(self)
    }

    fn assume_device_all(all: Vec<Self>, _: sealed::Crate) -> Vec<Self::Device> {
        turn_over(all)
    }
}

/// A change of the type alone, which the compiler does not always see when it is
/// made one by one.
fn turn_over<A: Owner, B: Owner, D: Direction, M: CacheMode>(
    all: Vec<Buffer<A, D, M>>,
) -> Vec<Buffer<B, D, M>> {
    let mut all = ManuallyDrop::new(all);
    // SAFETY: the allocation of a vector that is forgotten. Buffers of all owners
    // have one layout (`Hold`), and any of one owner is a value of another: whether
    // the owner is the right one, the caller knows.
    unsafe { Vec::from_raw_parts(all.as_mut_ptr().cast(), all.len(), all.capacity()) }
}

macro_rules! tuples {
    ($($part:ident $index:tt),*) => {
        impl<$($part: Each),*> Each for ($($part,)*) {
            #[inline]
            fn each<'a>(
                &'a self,
                visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>,
            ) -> ControlFlow<()> {
                $(self.$index.each(visit)?;)*
                Continue(())
            }
        }

        impl<$($part: Parts),*> Parts for ($($part,)*) {
            type Cpu = ($($part::Cpu,)*);

            fn assume_cpu(self, by: sealed::Crate) -> Self::Cpu {
                ($(self.$index.assume_cpu(by),)*)
            }
        }

        impl<$($part: CpuParts),*> CpuParts for ($($part,)*) {
            type Device = ($($part::Device,)*);
            const COMBINES: bool = $($part::COMBINES)||*;

            fn assume_device(self, by: sealed::Crate) -> Self::Device {
                ($(self.$index.assume_device(by),)*)
            }
        }
    };
}

tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, E 3);

impl<P: Each, const N: usize> Each for [P; N] {
    #[inline]
    fn each<'a>(&'a self, visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        P::each_of(self, visit)
    }
}

impl<P: Parts, const N: usize> Parts for [P; N] {
    type Cpu = [P::Cpu; N];

    fn assume_cpu(self, by: sealed::Crate) -> Self::Cpu {
        self.map(|part| part.assume_cpu(by))
    }
}

impl<P: CpuParts, const N: usize> CpuParts for [P; N] {
    type Device = [P::Device; N];
    const COMBINES: bool = P::COMBINES;

    fn assume_device(self, by: sealed::Crate) -> Self::Device {
        self.map(|part| part.assume_device(by))
    }
}

impl<P: Each> Each for Vec<P> {
    #[inline]
    fn each<'a>(&'a self, visit: &mut impl FnMut(Piece<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        P::each_of(self, visit)
    }
}

impl<P: Parts> Parts for Vec<P> {
    type Cpu = Vec<P::Cpu>;

    fn assume_cpu(self, by: sealed::Crate) -> Self::Cpu {
        P::assume_cpu_all(self, by)
    }
}

impl<P: CpuParts> CpuParts for Vec<P> {
    type Device = Vec<P::Device>;
    const COMBINES: bool = P::COMBINES;

    fn assume_device(self, by: sealed::Crate) -> Self::Device {
        P::assume_device_all(self, by)
    }
}
