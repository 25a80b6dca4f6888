//! A block is inside the one that it is a part of.

udmabuf_uio::block! { struct Channel: 0x20 bytes { 0x00 => CONTROL: ReadWrite<u32> } }
udmabuf_uio::block! {
    struct Engine: 0x100 bytes {
        0xe8 => CHANNEL: Channel,
    }
}

fn main() {}
