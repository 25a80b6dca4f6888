//! A dma-buf comes from others, who may be using it: importing is a promise.
use std::os::fd::OwnedFd;

use udmabuf::{Buffer};

fn main() {}

fn import(fd: OwnedFd) {
    drop(Buffer::import(fd));
}
