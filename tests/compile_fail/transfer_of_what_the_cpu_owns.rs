//! An engine is started on what was handed over.
use udmabuf::{Buffer, CpuOwned, Engine, Slot};

fn main() {}

fn start<E: Engine>(engine: &Slot<E>, buffer: Buffer<CpuOwned>) {
    drop(engine.start(buffer, |_, _| Ok(())));
}
