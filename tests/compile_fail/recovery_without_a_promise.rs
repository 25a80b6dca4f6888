//! That the engine of a program that died is idle is a promise.
use udmabuf::{Buffer};

fn main() {}

fn open() {
    drop(Buffer::recover("udmabuf0"));
}
