//! What is exported is handed over first.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn export(buffer: Buffer<CpuOwned>) {
    drop(buffer.export());
}
