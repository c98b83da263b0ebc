//! The decision: what a route demands, held against who calls. Pure; the only maker of a `Permit`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::{Caller, Identity};

/// Leave to go on: made by `Policy::decide` alone, demanded by every carrier.
#[derive(Clone, Debug)]
pub struct Permit {
    caller: Caller,
    client: Option<IpAddr>,
}

/// What the upstream is told about the caller (`x-auth-status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStatus {
    /// A verified identity stands in the headers.
    Authenticated,
    /// No credential came.
    Guest,
    /// A bad credential came, on a route that lets guests pass.
    InvalidToken,
}

impl Permit {
    /// Who was let through.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The verified identity, where there is one.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.caller {
            Caller::Known(identity) => Some(identity),
            Caller::Guest | Caller::Unverified(..) => None,
        }
    }

    /// The client's address, behind trusted proxies; `None` on a unix socket.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// What the upstream is told.
    pub fn status(&self) -> AuthStatus {
        match &self.caller {
            Caller::Known(_) => AuthStatus::Authenticated,
            Caller::Guest => AuthStatus::Guest,
            Caller::Unverified(..) => AuthStatus::InvalidToken,
        }
    }
}

#[cfg(test)]
impl Permit {
    /// A permit for `caller` out of nowhere, for the tests of the parts that demand one.
    pub(crate) fn for_test(caller: Caller) -> Self {
        Self {
            caller,
            client: None,
        }
    }
}
