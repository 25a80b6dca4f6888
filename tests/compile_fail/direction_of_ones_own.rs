//! There are three directions; one that is none cannot be written.
use udmabuf::{Direction};

fn main() {}

enum Sideways {}
impl Direction for Sideways {}
