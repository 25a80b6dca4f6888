//! A part that was joined is part of the whole, and nothing of its own.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn join(front: Buffer<CpuOwned>, back: Buffer<CpuOwned>) -> u8 {
    let whole = front.join(back);
    drop(whole);
    back.as_slice()[0]
}
