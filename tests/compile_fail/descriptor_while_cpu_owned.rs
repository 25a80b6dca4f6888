//! Nobody gets the descriptor of a dma-buf that the CPU is working on.
use std::os::fd::{AsFd, BorrowedFd};

use udmabuf::{Bidirectional, Buffer, CpuOwned, Foreign};

fn main() {}

fn lend(frame: &Buffer<CpuOwned, Bidirectional, Foreign>) -> BorrowedFd<'_> {
    frame.as_fd()
}
