//! Only a driver, or somebody's `unsafe` word, knows that sharing has ended.
use udmabuf::{Buffer, CpuOwned, Shared};

fn main() {}

fn end(ring: Buffer<Shared>) -> Buffer<CpuOwned> {
    ring.into_cpu().unwrap()
}
