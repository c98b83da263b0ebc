//! How long a client may open no window for an answer that waits for it, which would hold the upstream's connection
//! for ever: h2 waits without end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config;

/// How long a client may leave a piece of an answer lying.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// However small the piece.
    pub timeout: Duration,
    /// Bytes of a piece that give another second; 0: none do.
    pub rate: u64,
}

impl Patience {
    /// As `[server]` says.
    pub fn of(server: &config::Server) -> Self {
        Self {
            timeout: server.send_timeout,
            rate: server.min_body_rate,
        }
    }

    fn with(self, bytes: usize) -> Duration {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000);
        let more = nanos.checked_div(self.rate).unwrap_or_default();
        self.timeout.saturating_add(Duration::from_nanos(more))
    }
}

/// A piece that lies, and until when.
pub struct Lying {
    patience: Patience,
    /// `None`: nothing lies.
    until: Option<Instant>,
    /// Set for the first piece that lies, and set right when it rings too early.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Lying {
    /// Nothing lies yet.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            until: None,
            alarm: None,
        }
    }

    /// The piece has been taken.
    pub fn taken(&mut self) {
        self.until = None;
    }

    /// A piece of `bytes` lies; ready when it has for too long.
    pub fn poll_too_long(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        let patience = self.patience;
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + patience.with(bytes));
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() > until {
            alarm.as_mut().reset(until);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PATIENCE: Patience = Patience {
        timeout: Duration::from_secs(60),
        rate: 100,
    };

    /// Seconds until a client is given up that takes each piece of `bytes` after `seconds`; `None`: it is not, in
    /// a hundred pieces.
    async fn given_up_after(bytes: usize, seconds: u64) -> Option<u64> {
        let start = Instant::now();
        let mut lying = Lying::new(PATIENCE);
        for _ in 0..100 {
            let too_long = poll_fn(|cx| lying.poll_too_long(cx, bytes));
            let taken = tokio::time::timeout(Duration::from_secs(seconds), too_long);
            if taken.await.is_ok() {
                return Some(start.elapsed().as_secs());
            }
            lying.taken();
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_a_piece_lying_is_given_up() {
        for (bytes, seconds, over) in [
            (1000, 1, None),
            (1000, 69, None),
            (1000, 71, Some(70)),
            (10, 3600, Some(60)),
            (100_000, 1000, None),
        ] {
            let row = (bytes, seconds);
            assert_eq!(given_up_after(bytes, seconds).await, over, "{row:?}");
        }
    }
}
