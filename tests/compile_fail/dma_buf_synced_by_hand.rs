//! Nor is a dma-buf synced by safe code, which may hold a slice of it.
use std::os::fd::BorrowedFd;

fn main() {}

fn sync(duplicate: BorrowedFd<'_>) {
    let _ = udmabuf_sys::dma_buf::begin_cpu_access(duplicate);
}
