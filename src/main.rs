//! The `portcullis` binary: arguments to `cli`, exit code.

fn main() {}
