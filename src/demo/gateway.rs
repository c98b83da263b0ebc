//! The gateway config that the demo runs (to come).
