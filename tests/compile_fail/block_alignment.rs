//! What is aligned to a block is aligned to its registers: to a power of two.
use udmabuf_uio::{Array, Block, Blocks, Inner, ReadWrite, Register};

struct Odd;

impl Block for Odd {
    const SIZE: usize = 0x18;
    const ALIGN: usize = 12;
}

struct Outer;

impl Block for Outer {
    const SIZE: usize = 0x60;
    const ALIGN: usize = 16;
}

const ONE: Register<Odd, u64, ReadWrite> = Register::at(0);
const MANY: Array<Odd, u64, ReadWrite, 2> = Array::at(0, 8);
const INNER: Inner<Outer, Odd> = Inner::at(12);
const INNERS: Blocks<Outer, Odd, 2> = Blocks::at(0, 24);

fn main() {
    let _ = (ONE, MANY, INNER, INNERS);
}
