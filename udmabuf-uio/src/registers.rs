//! A register block, and access to it.

use std::{fmt, marker::PhantomData};

use crate::{Modifiable, Readable, Register, Takable, Writable, barrier};

/// A register block: a type of its own, so that a register of one device
/// cannot be used on another. [`block!`](crate::block) declares it.
pub trait Block {
    /// The size of the block in bytes. What is mapped must be at least as long.
    const SIZE: usize;
    /// The alignment in bytes that its registers need: the width of the widest, or
    /// any larger power of two.
    const ALIGN: usize = 8;
}

/// Declares a register block: offset, access and type of every register, once.
///
/// ```
/// udmabuf_uio::bits! { pub struct Status(u32) { 0 => DONE: bool, 1 => ERROR: bool } }
///
/// udmabuf_uio::block! {
///     /// One channel.
///     pub struct Channel: 0x10 bytes {
///         0x0 => CONTROL: ReadWrite<u32>,
///         0x4 => STATUS: WriteEffect<Status>,
///         0x8 => ADDRESS: WriteOnly<u64>,
///     }
/// }
///
/// udmabuf_uio::block! {
///     /// The engine: its version, a FIFO, sixteen coefficients of 16 bits that
///     /// are 4 bytes apart, and two channels after one that drives both.
///     pub struct Engine: 0x80 bytes {
///         0x00 => VERSION: ReadOnly<u32>,
///         0x04 => EVENTS: ReadEffect<u32>,
///         0x20 => COEFFICIENTS: [ReadWrite<u16>; 8 step 4],
///         0x40 => COMMON: Channel,
///         0x60 => CHANNELS: [Channel; 2 step 0x10],
///     }
/// }
///
/// const SECOND_STATUS: usize =
///     Engine::CHANNELS.index::<1>().register(Channel::STATUS).offset();
/// assert_eq!(SECOND_STATUS, 0x74);
/// ```
///
/// The kinds of access are [`ReadWrite`](crate::ReadWrite),
/// [`ReadOnly`](crate::ReadOnly), [`WriteOnly`](crate::WriteOnly),
/// [`WriteEffect`](crate::WriteEffect), [`ReadEffect`](crate::ReadEffect) and
/// [`ReadEffectWrite`](crate::ReadEffectWrite). After the size, `align 4` says
/// that no register is wider than 4 bytes, for a block that is repeated at an
/// odd multiple of 4.
///
/// A register outside its block does not compile:
/// ```compile_fail
/// udmabuf_uio::block! { struct Dma: 0x100 bytes { 0x100 => BEYOND: ReadWrite<u32> } }
/// ```
/// nor does one that is not aligned to its width, nor the 17th of 16 registers:
/// ```compile_fail
/// udmabuf_uio::block! { struct Dma: 0x100 bytes { 0x02 => ACROSS: ReadWrite<u32> } }
/// ```
/// ```compile_fail
/// udmabuf_uio::block! { struct Dma: 0x100 bytes { 0x40 => TABLE: [ReadOnly<u32>; 16] } }
/// let beyond = Dma::TABLE.index::<16>();
/// ```
#[macro_export]
macro_rules! block {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Block:ident: $size:literal bytes $(, align $align:literal)? {
            $($registers:tt)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis enum $Block {}

        impl $crate::Block for $Block {
            const SIZE: usize = $size;
            $(const ALIGN: usize = $align;)?
        }

        $crate::block!(@registers $Block, $vis, $($registers)*);
    };

    (@registers $Block:ident, $vis:vis,) => {};
    (@registers $Block:ident, $vis:vis,
        $(#[$doc:meta])* $offset:literal => $name:ident: $Access:ident<$T:ty>
        $(, $($rest:tt)*)?
    ) => {
        $crate::block!(@declare $Block [$(#[$doc])* $vis] $name:
            $crate::Register<Self, $T, $crate::$Access> = $crate::Register::at($offset));
        $crate::block!(@registers $Block, $vis, $($($rest)*)?);
    };
    (@registers $Block:ident, $vis:vis,
        $(#[$doc:meta])* $offset:literal => $name:ident:
            [$Access:ident<$T:ty>; $n:literal $(step $step:literal)?]
        $(, $($rest:tt)*)?
    ) => {
        $crate::block!(@declare $Block [$(#[$doc])* $vis] $name:
            $crate::Array<Self, $T, $crate::$Access, $n> =
            $crate::Array::at($offset, $crate::block!(@step $T, $($step)?)));
        $crate::block!(@registers $Block, $vis, $($($rest)*)?);
    };
    (@registers $Block:ident, $vis:vis,
        $(#[$doc:meta])* $offset:literal => $name:ident:
            [$Inner:ident; $n:literal $(step $step:literal)?]
        $(, $($rest:tt)*)?
    ) => {
        $crate::block!(@declare $Block [$(#[$doc])* $vis] $name:
            $crate::Blocks<Self, $Inner, $n> =
            $crate::Blocks::at($offset, $crate::block!(@inner_step $Inner, $($step)?)));
        $crate::block!(@registers $Block, $vis, $($($rest)*)?);
    };

    (@registers $Block:ident, $vis:vis,
        $(#[$doc:meta])* $offset:literal => $name:ident: $Inner:ident
        $(, $($rest:tt)*)?
    ) => {
        $crate::block!(@declare $Block [$(#[$doc])* $vis] $name:
            $crate::Inner<Self, $Inner> = $crate::Inner::at($offset));
        $crate::block!(@registers $Block, $vis, $($($rest)*)?);
    };

    (@declare $Block:ident [$($before:tt)*] $name:ident: $Kind:ty = $value:expr) => {
        #[allow(dead_code, reason = "a block is declared whole, and used as needed")]
        impl $Block {
            $($before)* const $name: $Kind = $value;
        }
        // Evaluated, and so checked, also where it is not used.
        const _: () = {
            let _ = $Block::$name;
        };
    };

    (@step $T:ty,) => { ::core::mem::size_of::<<$T as $crate::Value>::Word>() };
    (@step $T:ty, $step:literal) => { $step };
    (@inner_step $Inner:ident,) => { <$Inner as $crate::Block>::SIZE };
    (@inner_step $Inner:ident, $step:literal) => { $step };
}

/// The registers of block `K`, reached through `I`: [`Mmio`](crate::Mmio) on
/// hardware, [`Emulated`](crate::emulator::Emulated) in the emulator.
///
/// Each access is one load or store of the register's width, and the compiler
/// neither adds nor drops nor merges any.
///
/// | to | call |
/// |---|---|
/// | read, write | [`read`](Self::read), [`write`](Self::write) |
/// | change some bits of a [`ReadWrite`](crate::ReadWrite) register | [`modify`](Self::modify) |
/// | read what reading changes: a FIFO | [`take`](Self::take) |
/// | tell the device that there is work in memory | [`doorbell`](Self::doorbell) |
/// | learn from the device that there is something in memory | [`status`](Self::status) |
///
/// ```
/// # use udmabuf_uio::emulator::{Device, emulate};
/// # use std::collections::VecDeque;
/// udmabuf_uio::bits! { struct Control(u32) { 0 => RUN: bool, 8..=15 => BURST: u8 } }
///
/// udmabuf_uio::block! {
///     struct Engine: 0x10 bytes {
///         0x0 => CONTROL: ReadWrite<Control>,
///         0x4 => TAIL: WriteOnly<u32>,
///         0x8 => DONE: ReadOnly<u32>,
///         0xc => EVENTS: ReadEffect<u32>,
///     }
/// }
/// # #[derive(Default)] struct Model { control: u64, done: u64, events: VecDeque<u64> }
/// # impl Device for Model {
/// #     fn read(&mut self, offset: usize) -> u64 {
/// #         match offset { 0 => self.control, 8 => self.done, _ => self.events.pop_front().unwrap_or(0) }
/// #     }
/// #     fn write(&mut self, offset: usize, value: u64) {
/// #         match offset { 0 => self.control = value, _ => { self.done = value; self.events.push_back(value) } }
/// #     }
/// #     fn step(&mut self) -> bool { false }
/// #     fn interrupt(&self) -> bool { false }
/// # }
/// # let (mut registers, _interrupt) = emulate::<Engine>(Model::default())?;
///
/// registers.modify(Engine::CONTROL, |control| control.with(Control::RUN, true));
/// // A descriptor is in memory, and the engine may look at it.
/// registers.doorbell(Engine::TAIL, 1);
/// // Once it says so, what it has written to memory is there to be read.
/// while registers.status(Engine::DONE) < 1 {}
/// // Each is read once: the next read gives the next one.
/// assert_eq!(registers.take(Engine::EVENTS), 1);
/// assert_eq!(registers.take(Engine::EVENTS), 0);
/// # Ok::<(), udmabuf_uio::Error>(())
/// ```
pub struct Registers<K, I = crate::Mmio> {
    io: I,
    block: PhantomData<fn(K) -> K>,
}

impl<K: Block, I: Io> Registers<K, I> {
    /// `io` must reach [`Block::SIZE`] bytes, from one that is aligned to
    /// [`Block::ALIGN`].
    pub(crate) fn new(io: I) -> Self {
        Self { io, block: PhantomData }
    }

    pub(crate) fn io(&self) -> &I {
        &self.io
    }

    /// Reads a register.
    #[inline]
    #[must_use]
    pub fn read<T: Value, A: Readable>(&self, register: Register<K, T, A>) -> T {
        self.load(register)
    }

    /// Writes a register.
    #[inline]
    pub fn write<T: Value, A: Writable>(&self, register: Register<K, T, A>, value: T) {
        self.io.write(register.offset(), value.to_word(), sealed::InBlock);
    }

    /// Reads a register, and writes what `change` makes of it. Through these
    /// registers nobody else writes it in between: hence `&mut`. Whoever maps the
    /// block a second time, or one that overlaps it, sees to that by himself.
    #[inline]
    pub fn modify<T: Value, A: Modifiable>(
        &mut self,
        register: Register<K, T, A>,
        change: impl FnOnce(T) -> T,
    ) {
        let value = self.read(register);
        self.write(register, change(value));
    }

    /// Reads a register whose reading changes the device. What is read from
    /// memory afterwards is as new as the value, as after [`status`](Self::status).
    #[inline]
    pub fn take<T: Value, A: Takable>(&mut self, register: Register<K, T, A>) -> T {
        let value = self.load(register);
        barrier::after_status();
        value
    }

    /// Writes a register that makes the device look into memory: what this
    /// thread has written to memory before, the device sees.
    ///
    /// Buffers of `udmabuf` are ready for the device when they are handed over;
    /// a descriptor in a shared ring is not, before its doorbell.
    #[inline]
    pub fn doorbell<T: Value, A: Writable>(&self, register: Register<K, T, A>, value: T) {
        barrier::before_doorbell();
        self.write(register, value);
    }

    /// Reads a register that says what the device has done to memory: what this
    /// thread reads from memory afterwards is not older.
    #[inline]
    #[must_use]
    pub fn status<T: Value, A: Readable>(&self, register: Register<K, T, A>) -> T {
        let value = self.read(register);
        barrier::after_status();
        value
    }

    #[inline]
    fn load<T: Value, A>(&self, register: Register<K, T, A>) -> T {
        T::from_word(self.io.read(register.offset(), sealed::InBlock))
    }
}

impl<K, I: fmt::Debug> fmt::Debug for Registers<K, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registers").field(&self.io).finish()
    }
}

/// What registers are reached through. Sealed.
pub trait Io: Send + Sync + 'static {
    /// Reads at `offset`, which a [`Register`] proves.
    #[doc(hidden)]
    fn read<W: Word>(&self, offset: usize, proof: sealed::InBlock) -> W;

    /// Writes at `offset`, which a [`Register`] proves.
    #[doc(hidden)]
    fn write<W: Word>(&self, offset: usize, word: W, proof: sealed::InBlock);
}

/// What a register can hold: a [`Word`], or a type that stands for one, as
/// [`bits!`](crate::bits) declares or a driver for a number with a unit:
///
/// ```
/// # use udmabuf_uio::Value;
/// #[derive(Clone, Copy)]
/// struct Microseconds(u32);
///
/// impl Value for Microseconds {
///     type Word = u32;
///     fn from_word(word: u32) -> Self { Self(word) }
///     fn to_word(self) -> u32 { self.0 }
/// }
///
/// udmabuf_uio::block! {
///     struct Timer: 4 bytes { 0 => PERIOD: ReadWrite<Microseconds> }
/// }
/// ```
pub trait Value: Copy {
    /// What is loaded and stored.
    type Word: Word;

    /// From the register.
    fn from_word(word: Self::Word) -> Self;

    /// To the register.
    fn to_word(self) -> Self::Word;
}

/// What one load or store moves: an unsigned integer no wider than the CPU's
/// own. Sealed.
pub trait Word: Value<Word = Self> + sealed::Sealed + 'static {
    #[doc(hidden)]
    fn to_u64(self) -> u64;
    #[doc(hidden)]
    fn from_u64(bits: u64) -> Self;
}

pub(crate) mod sealed {
    /// Proof that an offset is a register's, aligned and inside the block of
    /// the registers that it is used on.
    #[derive(Clone, Copy, Debug)]
    pub struct InBlock;

    pub trait Sealed {}
}

macro_rules! words {
    ($($int:ty),*) => {$(
        impl Value for $int {
            type Word = Self;
            #[inline]
            fn from_word(word: Self) -> Self {
                word
            }
            #[inline]
            fn to_word(self) -> Self {
                self
            }
        }
        impl sealed::Sealed for $int {}
        impl Word for $int {
            #[inline]
            fn to_u64(self) -> u64 {
                self.into()
            }
            #[inline]
            #[allow(clippy::cast_possible_truncation, reason = "a bus carries the register's width")]
            fn from_u64(bits: u64) -> Self {
                bits as Self
            }
        }
    )*};
}
words!(u8, u16, u32);
// A 32-bit CPU would need two loads.
#[cfg(target_pointer_width = "64")]
words!(u64);
