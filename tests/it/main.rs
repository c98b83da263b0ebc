//! Behaviour seen from outside: one binary, a module per behaviour.

mod vectors;
