//! Nor is a value read that the bytes may not be.
use udmabuf::{Buffer, Error, Shared};

fn main() {}

fn is_ready(ring: &Buffer<Shared>) -> Result<bool, Error> {
    ring.read(0)
}
