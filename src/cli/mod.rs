//! The command line: one file for each command.

pub mod check;
pub mod demo;
pub mod schema;
pub mod token;
