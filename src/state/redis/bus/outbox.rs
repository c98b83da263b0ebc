//! What waits to be told to other gateways, and what was told lately: a server that takes another's place may not have
//! it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// News in their order.
#[derive(Default)]
pub(super) struct Outbox {
    shelf: Mutex<Shelf>,
    some: Notify,
}

/// News that are told at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Something before them could not be kept.
    pub(super) gap: bool,
    pub(super) news: Vec<Box<str>>,
    /// Those of another filling of the shelf are not taken from this one.
    filling: u64,
}

#[derive(Default)]
struct Shelf {
    waiting: VecDeque<Box<str>>,
    gap: bool,
    filling: u64,
    told: VecDeque<(Instant, Box<str>)>,
}

impl Outbox {
    /// Puts one behind the others. Where too many wait, all of them are a gap.
    pub(super) fn put(&self, news: Box<str>) {
        let mut shelf = self.shelf();
        if shelf.waiting.len() >= MOST {
            shelf.give_up();
        }
        shelf.waiting.push_back(news);
        self.some.notify_one();
    }

    /// The first ones, which stay where they are; `None`: there are none.
    pub(super) fn next(&self) -> Option<Batch> {
        let shelf = self.shelf();
        let news: Vec<_> = shelf.waiting.iter().take(AT_ONCE).cloned().collect();
        (shelf.gap || !news.is_empty()).then_some(Batch {
            gap: shelf.gap,
            news,
            filling: shelf.filling,
        })
    }

    /// These were told.
    pub(super) fn sent(&self, batch: &Batch) {
        let mut shelf = self.shelf();
        if shelf.filling != batch.filling {
            return;
        }
        let now = Instant::now();
        shelf.gap = false;
        for _ in 0..batch.news.len() {
            if let Some(news) = shelf.waiting.pop_front() {
                shelf.told.push_back((now, news));
            }
        }
        while shelf
            .told
            .front()
            .is_some_and(|(at, _)| now - *at > KEPT || shelf.told.len() > MOST)
        {
            shelf.told.pop_front();
        }
    }

    /// What was told lately is told again, before what waits.
    pub(super) fn repeat(&self) {
        let mut shelf = self.shelf();
        let now = Instant::now();
        let told = std::mem::take(&mut shelf.told);
        for (at, news) in told.into_iter().rev() {
            if now - at <= KEPT {
                shelf.waiting.push_front(news);
            }
        }
        // What is being sent now may be at the front no longer.
        shelf.filling += 1;
        if shelf.waiting.len() > MOST {
            shelf.give_up();
        }
        self.some.notify_one();
    }

    /// Waits until there may be something.
    pub(super) async fn some(&self) {
        self.some.notified().await;
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn give_up(&mut self) {
        self.waiting.clear();
        self.gap = true;
        self.filling += 1;
    }
}

/// As many wait at most.
const MOST: usize = 100_000;
/// As many are told at once.
const AT_ONCE: usize = 200;
/// How long what was told is kept: longer than a replica lags behind the server whose place it takes.
const KEPT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn put(outbox: &Outbox, numbers: std::ops::Range<usize>) {
        for number in numbers {
            outbox.put(number.to_string().into());
        }
    }

    #[test]
    fn news_go_in_their_order_and_stay_until_they_were_sent() {
        let outbox = Outbox::default();
        assert_eq!(outbox.next(), None);
        put(&outbox, 0..AT_ONCE + 1);
        let first = outbox.next().unwrap();
        assert_eq!((first.news.len(), &*first.news[0]), (AT_ONCE, "0"));
        assert_eq!(outbox.next().as_ref(), Some(&first));
        outbox.sent(&first);
        assert_eq!(*outbox.next().unwrap().news, [Box::from("200")]);
    }

    #[test]
    fn too_many_are_a_gap() {
        let outbox = Outbox::default();
        put(&outbox, 0..MOST);
        let late = outbox.next().unwrap();
        put(&outbox, MOST..MOST + 1);
        let batch = outbox.next().unwrap();
        assert!(batch.gap);
        assert_eq!(batch.news.len(), 1);
        outbox.sent(&late);
        assert_eq!(outbox.next().as_ref(), Some(&batch), "it was not of this");
        outbox.sent(&batch);
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn what_was_told_lately_is_told_again_first() {
        let outbox = Outbox::default();
        put(&outbox, 0..2);
        let batch = outbox.next().unwrap();
        outbox.sent(&batch);
        put(&outbox, 2..3);
        outbox.repeat();
        let again = outbox.next().unwrap();
        assert_eq!(again.news.join(" "), "0 1 2");
        assert!(!again.gap);
        outbox.sent(&again);
        assert_eq!(outbox.next(), None);
    }
}
