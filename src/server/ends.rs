//! What processes over the same store tell each other through it: each notes what it ended (`accounts/notes.rs`), and looks here
//! twice a second for what others did, the command line above all, to tell it on as what happened elsewhere, so that what is
//! remembered and the streams that are open end with it, and what began since does not.

use std::sync::Arc;
use std::time::Duration;

use crate::state::{News, Revocations};
use crate::store::{Store, StoreError};

/// Where a follower stands: at the newest note.
pub struct Follower {
    store: Arc<dyn Store>,
    revocations: Arc<Revocations>,
    seen: i64,
}

impl Follower {
    /// Follows from now on: to be made before the first token is verified.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn begin(
        store: Arc<dyn Store>,
        revocations: Arc<Revocations>,
    ) -> Result<Self, StoreError> {
        let seen = store.last_end().await?;
        Ok(Self {
            store,
            revocations,
            seen,
        })
    }

    /// Follows for ever. A store that is away is asked again: what it says then has missed nothing.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.catch_up().await {
                tracing::debug!(%error, "what other processes ended could not be read");
            }
        }
    }

    /// Tells on what is new.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        loop {
            let ends = self.store.ends_after(self.seen).await?;
            if ends.is_empty() {
                return Ok(());
            }
            for (number, ended) in ends {
                self.revocations.hear(News::Ended(ended));
                self.seen = number;
            }
        }
    }
}

/// How long an end may take to be known here.
const EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::{self, StorePlace};
    use crate::state::Ended;
    use crate::store;

    #[tokio::test]
    async fn what_another_process_ended_is_told_once() {
        let folder = std::env::temp_dir().join(format!("portcullis-ends-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let config = config::Store {
            place: StorePlace::Sqlite(folder.join("store.db")),
            connections: 1,
            connect_timeout: EVERY,
            statement_timeout: Duration::from_secs(20),
            ca: None,
        };
        let (here, there) = (store::open(&config).unwrap(), store::open(&config).unwrap());
        there.note_end(Ended::Token(1), 1000).await.unwrap();
        let revocations = Revocations::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        revocations.subscribe(move |notice| ears.lock().unwrap().push(notice.news));
        let mut follower = Follower::begin(here, revocations).await.unwrap();
        follower.catch_up().await.unwrap();
        for token in 2..4 {
            there.note_end(Ended::Token(token), 1000).await.unwrap();
        }
        follower.catch_up().await.unwrap();
        follower.catch_up().await.unwrap();
        let expected = [2, 3].map(|token| News::Ended(Ended::Token(token)));
        assert_eq!(*heard.lock().unwrap(), expected);
        drop((follower, there));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
