//! A bus address comes from a buffer that the device owns, and from nowhere else.
use udmabuf::{DmaAddr};

fn main() {}

fn anywhere() -> DmaAddr {
    DmaAddr { first: 0, len: 4096 }
}
