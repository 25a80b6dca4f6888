//! That buffers are synced is for this crate to say.
use udmabuf::{Parts};

fn main() {}

fn pretend<P: Parts>(parts: P) -> P::Cpu {
    parts.assume_cpu(udmabuf::parts::sealed::Crate)
}
