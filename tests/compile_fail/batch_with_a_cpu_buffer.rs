//! All buffers of a transfer were handed over.
use udmabuf::{Buffer, CpuOwned, DeviceOwned, Engine, Slot};

fn main() {}

fn start<E: Engine>(engine: &Slot<E>, lent: Buffer<DeviceOwned>, mine: Buffer<CpuOwned>) {
    drop(engine.start((lent, mine), |_, _| Ok(())));
}
