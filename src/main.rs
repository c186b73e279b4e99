//! The command line of Sales Coach: one binary, `coach`.

fn main() {}
