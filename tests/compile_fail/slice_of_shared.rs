//! The device may be writing what is shared: there is no slice of it.
use udmabuf::{Buffer, Shared};

fn main() {}

fn look(ring: &Buffer<Shared>) -> u8 {
    ring.as_slice()[0]
}
