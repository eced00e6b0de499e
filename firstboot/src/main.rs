//! The program `firstboot`.

fn main() {}
