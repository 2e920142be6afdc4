//! The `rayscaler` program.

fn main() {}
