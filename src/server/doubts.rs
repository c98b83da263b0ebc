//! Live streams in doubt: the store is asked whose they are by now, and the policy of their route whether it would let
//! them in still. Runs on the control thread, off every request's path.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::Gate;
use crate::identity::Identity;
use crate::policy::Permit;
use crate::records::SessionId;
use crate::refusal::Refusal;
use crate::server::Station;
use crate::streams::{Doubtful, End, Judge, Verdict};

/// What the store says of a session, or of one opaque token of it.
type Answers = HashMap<(SessionId, Option<i64>), Result<Arc<Identity>, Refusal>>;

/// Settles doubts until the process ends.
pub async fn settle(station: Arc<Station>) {
    let streams = Arc::clone(&station.resources.streams);
    let mut left = Vec::new();
    loop {
        let doubted = match left.is_empty() {
            true => streams.doubted().await,
            false => tokio::time::timeout(PAUSE, streams.doubted())
                .await
                .unwrap_or_default(),
        };
        left.extend(doubted);
        let gate = station.gate.load_full();
        let mut answers = Answers::new();
        let mut unsettled = Vec::new();
        for doubtful in left {
            let permit = doubtful.permit();
            match verdict(&gate, &mut answers, (doubtful.route(), &permit)).await {
                Some(verdict) => doubtful.apply(verdict),
                // Nobody can tell: it may not go on like this for long.
                None if is_old(&doubtful) => doubtful.apply(Verdict::End(End::Revoked)),
                None => unsettled.push(doubtful),
            }
        }
        left = unsettled;
    }
}

/// `None`: the store is away.
async fn verdict(
    gate: &Gate,
    answers: &mut Answers,
    (route, permit): (&str, &Permit),
) -> Option<Verdict> {
    let over = Some(Verdict::End(End::Revoked));
    let Some(identity) = permit.identity() else {
        return Some(Verdict::Keep);
    };
    let Some(standing) = &identity.standing else {
        return Some(Verdict::Keep);
    };
    let key = (standing.session, standing.token);
    if let std::collections::hash_map::Entry::Vacant(unasked) = answers.entry(key) {
        unasked.insert(gate.verifier().look_again(identity).await);
    }
    match answers.get(&key) {
        None | Some(Err(Refusal::StoreUnavailable)) => None,
        Some(Err(_)) => over,
        Some(Ok(fresh)) => match gate.allows(route, &permit.renewed(fresh)) {
            true => Some(Verdict::Keep),
            false => over,
        },
    }
}

fn is_old(doubtful: &Doubtful) -> bool {
    doubtful.since.elapsed() > PATIENCE
}

/// Between two questions to a store that is away.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a stream in doubt may go on while the store is away.
const PATIENCE: Duration = Duration::from_secs(3);
