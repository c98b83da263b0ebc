//! A gateway as a process would run it, a scripted upstream behind it, and a client that sends bytes.

#![allow(dead_code, reason = "each module of tests uses a part of it")]

pub mod api;
pub mod caller;
pub mod gateway;
pub mod peer;
pub mod service;
pub mod setup;
pub mod tls;
pub mod upstream;
pub mod websocket;

use std::future::Future;
use std::time::Duration;

pub use gateway::Gateway;
pub use peer::Peer;
pub use service::Service;
pub use setup::{Setup, token};
pub use upstream::{Upstream, empty, full};

/// What the gateway and the upstream are waited for: a guard against a test that would hang, never a
/// measure.
const GUARD: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, what)
        .await
        .expect("what was awaited did not happen")
}

/// Asks again and again until it is so: for figures that nobody announces.
pub async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    soon(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
