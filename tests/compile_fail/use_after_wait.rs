//! A transfer that was waited for is over, or in the error.
use std::time::Duration;

use udmabuf::{Buffer, DeviceOwned, Engine, Transfer};

fn main() {}

fn twice<E: Engine>(transfer: Transfer<E, Buffer<DeviceOwned>>) {
    drop(transfer.wait(Duration::ZERO));
    drop(transfer.wait(Duration::ZERO));
}
