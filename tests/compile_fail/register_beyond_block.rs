//! Every register is inside its block, used or not.

udmabuf_uio::block! {
    struct Dma: 0x10 bytes {
        0x10 => BEYOND: ReadWrite<u32>,
        0x0e => ACROSS: ReadWrite<u32>,
    }
}

fn main() {}
