//! Parts are joined when both are the CPU's.
use udmabuf::{Buffer, CpuOwned, DeviceOwned};

fn main() {}

fn join(mine: Buffer<CpuOwned>, lent: Buffer<DeviceOwned>) {
    drop(mine.join(lent));
}
