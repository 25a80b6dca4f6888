//! What a device wrote may be no `bool`: such types are viewed with `try_view`.
use udmabuf::{Buffer, CpuOwned, Error};

fn main() {}

fn is_ready(buffer: &Buffer<CpuOwned>) -> Result<bool, Error> {
    buffer.view::<bool>(0).copied()
}
