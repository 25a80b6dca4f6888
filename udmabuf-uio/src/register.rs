//! Where a register is, what it holds and how it may be accessed.

use std::marker::PhantomData;

use crate::{Block, Value};

/// Of this block and of no subtype.
type Exactly<K> = PhantomData<fn(K) -> K>;

/// A register of block `K` that holds a `T`; [`block!`](crate::block) declares it.
///
/// # Invariants
/// `offset` is a multiple of the size of `T`'s word, and the word is inside the
/// block `K`: exactly `K`, not a subtype with another size. `K::ALIGN` is a power of
/// two and at least that size, so what is aligned to it is aligned to the word.
#[derive(Debug)]
pub struct Register<K, T, A = ReadWrite> {
    offset: usize,
    block: Exactly<K>,
    kind: PhantomData<(T, A)>,
}

impl<K: Block, T: Value, A> Register<K, T, A> {
    /// The register at `offset` bytes; for a `const`, where a wrong offset is a
    /// compile error.
    ///
    /// # Panics
    /// If it is not aligned or not inside the block.
    #[must_use]
    pub const fn at(offset: usize) -> Self {
        let width = size_of::<T::Word>();
        assert!(offset % width == 0, "a register is aligned to its width");
        assert!(K::ALIGN.is_power_of_two(), "the alignment of a block is a power of two");
        assert!(width <= K::ALIGN, "the register needs more alignment than its block has");
        assert!(width <= K::SIZE && offset <= K::SIZE - width, "the register is outside its block");
        Self::new(offset)
    }
}

impl<K, T, A> Register<K, T, A> {
    /// `offset` is as the invariant says.
    const fn new(offset: usize) -> Self {
        Self { offset, block: PhantomData, kind: PhantomData }
    }

    /// Where it is in its block, in bytes.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.offset
    }
}

impl<K, T, A> Clone for Register<K, T, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, T, A> Copy for Register<K, T, A> {}

/// `N` registers alike, `step` bytes from one to the next.
///
/// # Invariants
/// The `N` registers are as the invariant of [`Register`] says.
#[derive(Debug)]
pub struct Array<K, T, A, const N: usize> {
    offset: usize,
    step: usize,
    block: Exactly<K>,
    kind: PhantomData<(T, A)>,
}

impl<K: Block, T: Value, A, const N: usize> Array<K, T, A, N> {
    /// The registers from `offset` on; for a `const`.
    ///
    /// # Panics
    /// If they are not aligned, overlap or are not inside the block.
    #[must_use]
    pub const fn at(offset: usize, step: usize) -> Self {
        let width = size_of::<T::Word>();
        assert!(N > 0, "the array has no register");
        assert!(step >= width, "the registers of the array overlap");
        assert!(offset % width == 0 && step % width == 0, "a register is aligned to its width");
        assert!(K::ALIGN.is_power_of_two(), "the alignment of a block is a power of two");
        assert!(width <= K::ALIGN, "the register needs more alignment than its block has");
        assert!(is_inside(offset, step, N, width, K::SIZE), "the array is not inside its block");
        Self { offset, step, block: PhantomData, kind: PhantomData }
    }

    /// Register number `I`, which the compiler checks.
    #[must_use]
    pub const fn index<const I: usize>(self) -> Register<K, T, A> {
        const { assert!(I < N, "the array has fewer registers") }
        Register::new(self.offset + I * self.step)
    }

    /// Register number `index`, if there are as many; it can be kept, and is
    /// not checked again.
    #[must_use]
    pub const fn get(self, index: usize) -> Option<Register<K, T, A>> {
        if index < N { Some(Register::new(self.offset + index * self.step)) } else { None }
    }

    /// All, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Register<K, T, A>> {
        (0..N).map(move |index| Register::new(self.offset + index * self.step))
    }
}

impl<K, T, A, const N: usize> Clone for Array<K, T, A, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, T, A, const N: usize> Copy for Array<K, T, A, N> {}

/// `N` blocks `G` alike inside block `K`: the channels of an engine.
///
/// # Invariants
/// The `N` blocks are inside `K`, and each is aligned to `G::ALIGN`.
#[derive(Debug)]
pub struct Blocks<K, G, const N: usize> {
    offset: usize,
    step: usize,
    outer: Exactly<K>,
    inner: Exactly<G>,
}

impl<K: Block, G: Block, const N: usize> Blocks<K, G, N> {
    /// The blocks from `offset` on, `step` bytes from one to the next; for a
    /// `const`.
    ///
    /// # Panics
    /// If they are not aligned, overlap or are not inside `K`.
    #[must_use]
    pub const fn at(offset: usize, step: usize) -> Self {
        assert!(N > 0, "there is no block");
        assert!(step >= G::SIZE, "the blocks overlap");
        assert!(
            G::ALIGN.is_power_of_two() && K::ALIGN.is_power_of_two(),
            "the alignment of a block is a power of two"
        );
        assert!(offset % G::ALIGN == 0 && step % G::ALIGN == 0, "a block is not aligned");
        assert!(G::ALIGN <= K::ALIGN, "the inner block needs more alignment than the outer has");
        assert!(
            is_inside(offset, step, N, G::SIZE, K::SIZE),
            "the blocks are not inside the outer"
        );
        Self { offset, step, outer: PhantomData, inner: PhantomData }
    }

    /// Block number `I`, which the compiler checks.
    #[must_use]
    pub const fn index<const I: usize>(self) -> Inner<K, G> {
        const { assert!(I < N, "there are fewer blocks") }
        Inner { offset: self.offset + I * self.step, outer: PhantomData, inner: PhantomData }
    }

    /// Block number `index`, if there are as many.
    #[must_use]
    pub const fn get(self, index: usize) -> Option<Inner<K, G>> {
        if index < N {
            Some(Inner {
                offset: self.offset + index * self.step,
                outer: PhantomData,
                inner: PhantomData,
            })
        } else {
            None
        }
    }
}

impl<K, G, const N: usize> Clone for Blocks<K, G, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, G, const N: usize> Copy for Blocks<K, G, N> {}

/// One block `G` inside block `K`.
///
/// # Invariants
/// It is inside `K`, and aligned to `G::ALIGN`.
#[derive(Debug)]
pub struct Inner<K, G> {
    offset: usize,
    outer: Exactly<K>,
    inner: Exactly<G>,
}

impl<K: Block, G: Block> Inner<K, G> {
    /// The block at `offset`; for a `const`.
    ///
    /// # Panics
    /// If it is not aligned or not inside `K`.
    #[must_use]
    pub const fn at(offset: usize) -> Self {
        assert!(
            G::ALIGN.is_power_of_two() && K::ALIGN.is_power_of_two(),
            "the alignment of a block is a power of two"
        );
        assert!(offset % G::ALIGN == 0, "a block is not aligned");
        assert!(G::ALIGN <= K::ALIGN, "the inner block needs more alignment than the outer has");
        assert!(is_inside(offset, 0, 1, G::SIZE, K::SIZE), "the block is not inside the outer");
        Self { offset, outer: PhantomData, inner: PhantomData }
    }
}

impl<K, G> Inner<K, G> {
    /// The inner block's register as one of the outer block.
    #[must_use]
    pub const fn register<T, A>(self, register: Register<G, T, A>) -> Register<K, T, A> {
        // Inside `G` which is inside `K`; both offsets are multiples of the
        // word's size, the inner block's because that is at most `G::ALIGN`.
        Register::new(self.offset + register.offset)
    }
}

impl<K, G> Clone for Inner<K, G> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, G> Copy for Inner<K, G> {}

/// Whether `n` times `width` bytes, `step` from one to the next, end in `size`.
const fn is_inside(offset: usize, step: usize, n: usize, width: usize, size: usize) -> bool {
    let Some(last) = step.checked_mul(n - 1) else { return false };
    let Some(last) = last.checked_add(offset) else { return false };
    let Some(end) = last.checked_add(width) else { return false };
    end <= size
}

/// Reads as it was written, or as the device has changed it.
#[derive(Debug)]
pub enum ReadWrite {}
/// Can only be read.
#[derive(Debug)]
pub enum ReadOnly {}
/// Can only be written.
#[derive(Debug)]
pub enum WriteOnly {}
/// Can be read; writing acts, so that what was read must not be written back
/// with a bit changed: a status whose bits a 1 clears or toggles.
#[derive(Debug)]
pub enum WriteEffect {}
/// Can only be read, and reading changes the device: a FIFO, or a status that
/// reading clears.
#[derive(Debug)]
pub enum ReadEffect {}
/// Can be written, and reading changes the device.
#[derive(Debug)]
pub enum ReadEffectWrite {}

/// Registers that can be read as often as one likes.
#[diagnostic::on_unimplemented(
    message = "this register cannot be read without consequences: it is `{Self}`",
    note = "`WriteOnly`: keep what was written in the driver if it is needed again",
    note = "`ReadEffect`, `ReadEffectWrite`: `take` reads it, from `&mut Registers`"
)]
pub trait Readable {}
impl Readable for ReadWrite {}
impl Readable for ReadOnly {}
impl Readable for WriteEffect {}

/// Registers that can be written.
#[diagnostic::on_unimplemented(
    message = "this register is read-only",
    note = "it was declared as `{Self}`"
)]
pub trait Writable {}
impl Writable for ReadWrite {}
impl Writable for WriteOnly {}
impl Writable for WriteEffect {}
impl Writable for ReadEffectWrite {}

/// Registers of which a part can be changed by writing the rest as it was read.
#[diagnostic::on_unimplemented(
    message = "this register cannot be modified: what is read from it is not what to write back",
    note = "it was declared as `{Self}`: `write` the whole value"
)]
pub trait Modifiable: Readable + Writable {}
impl Modifiable for ReadWrite {}

/// Registers that change when they are read.
#[diagnostic::on_unimplemented(
    message = "reading this register is no event: it is `{Self}`",
    note = "use `read`, or `status` where memory is read because of it"
)]
pub trait Takable {}
impl Takable for ReadEffect {}
impl Takable for ReadEffectWrite {}
