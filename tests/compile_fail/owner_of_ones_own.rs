//! There are three owners, and no other type can pass for one.
use udmabuf::{Owner};

fn main() {}

enum Nobody {}
impl Owner for Nobody {}
