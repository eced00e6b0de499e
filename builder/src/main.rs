//! The command `nodekiln`.

fn main() {}
