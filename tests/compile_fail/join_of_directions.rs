//! Parts are joined when they go the same way.
use udmabuf::{Buffer, CpuOwned, FromDevice, ToDevice};

fn main() {}

fn join(request: Buffer<CpuOwned, ToDevice>, reply: Buffer<CpuOwned, FromDevice>) {
    drop(request.join(reply));
}
