//! Timers that a worker lends to its requests. Nearly every request is answered long before its time is over;
//! a timer that was not needed is left running and lent to the next one, which has it rung anew if it rings
//! too early. Setting one for each request and taking it back cost a thousand instructions of 32,000.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// The timers of one worker that nobody needs now.
#[derive(Default)]
pub struct Timers(RefCell<Vec<Pin<Box<Sleep>>>>);

/// A timer, lent until it is dropped.
pub struct Timer<'t> {
    home: &'t Timers,
    /// Rings at its time or before; `None`: only while it is given back.
    sleep: Option<Pin<Box<Sleep>>>,
    due: Instant,
}

impl Timers {
    /// A timer that rings at `due`.
    pub fn lend(&self, due: Instant) -> Timer<'_> {
        let spare = self.0.borrow_mut().pop();
        let mut timer = Timer {
            home: self,
            sleep: Some(spare.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(due)))),
            due,
        };
        timer.set(due);
        timer
    }
}

impl Timer<'_> {
    /// Lets it ring at `due` instead.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        // One that rings too early is set right when it does.
        if let Some(sleep) = &mut self.sleep
            && sleep.deadline() > due
        {
            sleep.as_mut().reset(due);
        }
    }

    /// Ready once its time has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else {
            return Poll::Ready(());
        };
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= self.due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.due);
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let mut spare = self.home.0.borrow_mut();
        if spare.len() < MOST_SPARE {
            spare.extend(self.sleep.take());
        }
    }
}

/// How many a worker keeps: as many as requests commonly wait at once. Each keeps the task that it was last
/// set for in memory until it rings.
const MOST_SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    /// Seconds until a timer set for `seconds` rings.
    async fn rings_after(timers: &Timers, seconds: u64) -> u64 {
        let start = Instant::now();
        let mut timer = timers.lend(start + Duration::from_secs(seconds));
        poll_fn(|cx| timer.poll(cx)).await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_used_rings_at_its_new_time() {
        let timers = Timers::default();
        for seconds in [60, 5, 60, 3600, 1] {
            // Not waited for to the end: it goes back while it runs.
            let short = Duration::from_millis(500);
            let waited = tokio::time::timeout(short, rings_after(&timers, 60)).await;
            assert!(waited.is_err());
            assert_eq!(timers.0.borrow().len(), 1);
            assert_eq!(rings_after(&timers, seconds).await, seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_can_be_set_later_and_sooner() {
        let timers = Timers::default();
        let start = Instant::now();
        let mut timer = timers.lend(start + Duration::from_secs(10));
        timer.set(start + Duration::from_secs(20));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 20);
        timer.set(start + Duration::from_secs(100));
        timer.set(start + Duration::from_secs(30));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
