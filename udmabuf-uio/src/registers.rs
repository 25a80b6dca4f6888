//! Registers, declared once with offset, width and access.

use std::{fmt, marker::PhantomData};

/// A register block: a type of its own, so that a register of one device
/// cannot be used on another.
pub trait Block {
    /// The size of the block in bytes. What is mapped must be at least as long.
    const SIZE: usize;
}

/// A register of block `K` that holds a `T`.
///
/// ```
/// # use udmabuf_uio::{Block, Register, ReadOnly};
/// # struct Dma;
/// # impl Block for Dma { const SIZE: usize = 0x100; }
/// const CONTROL: Register<Dma, u32> = Register::at(0x00);
/// const STATUS: Register<Dma, u32, ReadOnly> = Register::at(0x04);
/// ```
///
/// One outside its block does not compile:
/// ```compile_fail
/// # use udmabuf_uio::{Block, Register};
/// # struct Dma;
/// # impl Block for Dma { const SIZE: usize = 0x100; }
/// const BEYOND: Register<Dma, u32> = Register::at(0x100);
/// ```
/// nor does one that is not aligned to its width:
/// ```compile_fail
/// # use udmabuf_uio::{Block, Register};
/// # struct Dma;
/// # impl Block for Dma { const SIZE: usize = 0x100; }
/// const ACROSS: Register<Dma, u32> = Register::at(0x02);
/// ```
///
/// # Invariants
/// `offset` is a multiple of the size of `T`, and `offset..offset + size` is
/// inside the block `K`: exactly `K`, not a subtype with another size.
#[derive(Debug)]
pub struct Register<K, T, A = ReadWrite> {
    offset: usize,
    block: PhantomData<fn(K) -> K>,
    kind: PhantomData<(T, A)>,
}

/// A register that can be read and written.
#[derive(Debug)]
pub enum ReadWrite {}
/// A register that can only be read.
#[derive(Debug)]
pub enum ReadOnly {}
/// A register that can only be written.
#[derive(Debug)]
pub enum WriteOnly {}

/// Registers that can be read.
#[diagnostic::on_unimplemented(
    message = "this register is write-only",
    note = "it was declared as `Register<_, _, WriteOnly>`: keep what was written in the driver if it is needed again"
)]
pub trait Readable {}
impl Readable for ReadWrite {}
impl Readable for ReadOnly {}

/// Registers that can be written.
#[diagnostic::on_unimplemented(
    message = "this register is read-only",
    note = "it was declared as `Register<_, _, ReadOnly>`"
)]
pub trait Writable {}
impl Writable for ReadWrite {}
impl Writable for WriteOnly {}

impl<K: Block, T: Value, A> Register<K, T, A> {
    /// The register at `offset` bytes; for a `const`, where a wrong offset is a
    /// compile error.
    ///
    /// # Panics
    /// If it is not aligned or not inside the block.
    #[must_use]
    pub const fn at(offset: usize) -> Self {
        assert!(offset % size_of::<T>() == 0, "a register is aligned to its width");
        assert!(
            size_of::<T>() <= K::SIZE && offset <= K::SIZE - size_of::<T>(),
            "the register is outside its block"
        );
        Self { offset, block: PhantomData, kind: PhantomData }
    }
}

impl<K, T, A> Clone for Register<K, T, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, T, A> Copy for Register<K, T, A> {}

/// The registers of block `K`, reached through `I`: [`Mmio`](crate::Mmio) on
/// hardware, [`Emulated`](crate::emulator::Emulated) in the emulator.
///
/// Each access is one load or store of the register's width.
pub struct Registers<K, I = crate::Mmio> {
    io: I,
    block: PhantomData<fn(K) -> K>,
}

impl<K: Block, I: Io> Registers<K, I> {
    /// `io` must reach [`Block::SIZE`] bytes.
    pub(crate) fn new(io: I) -> Self {
        Self { io, block: PhantomData }
    }

    /// Reads a register.
    #[inline]
    #[must_use]
    pub fn read<T: Value, A: Readable>(&self, register: Register<K, T, A>) -> T {
        self.io.read(register.offset, sealed::InBlock)
    }

    /// Writes a register.
    #[inline]
    pub fn write<T: Value, A: Writable>(&self, register: Register<K, T, A>, value: T) {
        self.io.write(register.offset, value, sealed::InBlock);
    }
}

impl<K, I: fmt::Debug> fmt::Debug for Registers<K, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registers").field(&self.io).finish()
    }
}

/// What registers are reached through. Sealed.
pub trait Io {
    /// Reads at `offset`, which a [`Register`] proves.
    #[doc(hidden)]
    fn read<T: Value>(&self, offset: usize, proof: sealed::InBlock) -> T;

    /// Writes at `offset`, which a [`Register`] proves.
    #[doc(hidden)]
    fn write<T: Value>(&self, offset: usize, value: T, proof: sealed::InBlock);
}

/// What a register can hold: an unsigned integer no wider than the CPU's own.
pub trait Value: Copy + sealed::Bits + 'static {}
impl<T: sealed::Bits + Copy + 'static> Value for T {}

pub(crate) mod sealed {
    /// Proof that an offset is a register's, aligned and inside the block of
    /// the registers that it is used on.
    #[derive(Clone, Copy, Debug)]
    pub struct InBlock;

    /// To and from what an emulated device sees.
    pub trait Bits {
        fn to_bits(self) -> u64;
        fn from_bits(bits: u64) -> Self;
    }

    macro_rules! bits {
        ($($int:ty),*) => {$(
            impl Bits for $int {
                fn to_bits(self) -> u64 {
                    self.into()
                }
                #[allow(clippy::cast_possible_truncation, reason = "a bus carries the register's width")]
                fn from_bits(bits: u64) -> Self {
                    bits as Self
                }
            }
        )*};
    }
    bits!(u8, u16, u32);
    // A 32-bit CPU would need two loads.
    #[cfg(target_pointer_width = "64")]
    bits!(u64);
}
