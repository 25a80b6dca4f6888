//! A register proves that it is inside its block, and inside no other: not even
//! one that Rust counts as the same type but for a lifetime.
#![allow(coherence_leak_check)]

use std::marker::PhantomData;

use udmabuf_uio::{Block, Register, Registers};

struct Dma<T>(PhantomData<T>);
type Large = Dma<for<'a> fn(&'a u8)>;
type Small = Dma<fn(&'static u8)>;

impl Block for Large {
    const SIZE: usize = 1 << 30;
}
impl Block for Small {
    const SIZE: usize = 4;
}
const FAR: Register<Large, u32> = Register::at((1 << 30) - 4);

fn main() {}

fn read(registers: &Registers<Small>) -> u32 {
    let far: Register<Small, u32> = FAR;
    registers.read(far)
}
