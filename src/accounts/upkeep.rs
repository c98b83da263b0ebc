//! What is done now and then: what is of no use any more leaves the store.

use std::time::Duration;

use super::{AccountError, Accounts};
use crate::records::UnixMillis;
use crate::store::{PruneBefore, Pruned};

impl Accounts {
    /// Removes ended sessions without jobs after 30 days, anonymous users that nobody can be any more, codes that are too old to be good, and keys that verify
    /// nothing. To be called now and then by one task of the process; several replicas may.
    ///
    /// # Errors
    /// `Unavailable`, `Failed`.
    pub async fn look_after(&self) -> Result<Pruned, AccountError> {
        let (now, settings) = (self.now(), self.settings());
        let ago = |time: Duration| {
            let time = UnixMillis::try_from(time.as_millis()).unwrap_or(UnixMillis::MAX);
            now.saturating_sub(time)
        };
        let before = PruneBefore {
            sessions: ago(ENDED_KEPT),
            codes: ago(settings.config.mail.code_ttl),
            anonymous: settings.config.anonymous_lifetime.map(ago),
        };
        let pruned = self.store.prune(before).await?;
        self.store.remove_keys(now).await?;
        Ok(pruned)
    }
}

const ENDED_KEPT: Duration = Duration::from_secs(30 * 86_400);
