//! What the gateway answers itself: a route's target is an upstream or a face. A face gets the `Permit` like
//! any carrier, and says no by the same refusals.

pub mod own;
pub mod page;

use http::Response;

use self::own::Own;
use crate::body::Body;
use crate::observe::request_id::RequestId;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::head::Head;

/// An API of the gateway's own.
pub enum Face {
    /// The calls that every gateway has: probes, `verify`, the public keys.
    Own(Own),
}

/// A permitted call.
pub struct Call<'r> {
    /// Its head, as it was judged.
    pub head: &'r Head,
    /// Leave to go on.
    pub permit: Permit,
    /// Its name in the logs.
    pub id: &'r RequestId,
    /// Its body.
    pub body: Body,
}

impl Face {
    /// Whether there is such a call: what can be told from the head alone, for `explain` and `[[test]]` too.
    ///
    /// # Errors
    /// When there is no such call, or not with this method.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        match self {
            Self::Own(own) => own.check(head),
        }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// When there is no such call, or it may not be made like this.
    #[expect(
        clippy::unused_async,
        reason = "faces that ask a store wait for it, and the gate asks all alike"
    )]
    pub async fn serve(&self, call: Call<'_>) -> Result<Response<Body>, Refusal> {
        self.check(call.head)?;
        match self {
            Self::Own(own) => own.serve(&call),
        }
    }
}
