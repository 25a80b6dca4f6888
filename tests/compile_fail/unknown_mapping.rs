//! The module is asked only for mappings that it makes.
use udmabuf::{Foreign, OpenOptions};

fn main() {}

fn open() {
    drop(OpenOptions::new().mapped::<Foreign>().open("udmabuf0"));
}
