//! Nor a view, which the compiler could read twice.
use udmabuf::{Buffer, Error, Shared};

fn main() {}

fn look(ring: &Buffer<Shared>) -> Result<&u32, Error> {
    ring.view(0)
}
