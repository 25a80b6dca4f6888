//! A stream is given parts by its ring, which keeps them: an address may be an old one.
use udmabuf::{DmaAddr, Stream};

fn main() {}

fn submit<E: Stream>(engine: &mut E, old: DmaAddr) -> bool {
    engine.submit(old).is_ok()
}
