//! Without the module's claim, being alone is a promise.
use udmabuf::{OpenOptions};

fn main() {}

fn open() {
    drop(OpenOptions::new().open_unclaimed("udmabuf0"));
}
