//! Whoever is about to send a message gives way first to the worker's other tasks that are ready. So a busy worker first reads
//! what has come, then sends one message after the other, and a peer on the same machine is still awake when the next one
//! reaches it: to wake it takes longer than anything else that is done for a request, and the sender pays for it. With 64
//! connections that halves the wake-ups (`benches/README.md`). Where few are ready nobody waits for anybody.
//!
//! For messages only: with events and WebSocket frames it was tried, and made the one later and the other dearer.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

/// What is known of this thread's crowd.
struct Crowd {
    /// How often somebody gave way. Wraps.
    given: Cell<u32>,
    /// The number of the one who counts those that give way behind it.
    counts: Cell<Option<u32>>,
    /// So many go on without giving way: there was no crowd when it was last looked for.
    hurried: Cell<u32>,
}

thread_local! {
    static CROWD: Crowd = const {
        Crowd {
            given: Cell::new(0),
            counts: Cell::new(None),
            hurried: Cell::new(HURRIED),
        }
    };
}

/// Lets the worker's other tasks that are ready go first, if there are many.
pub async fn others_first() {
    let Some(number) = CROWD.with(Crowd::give_way) else {
        return;
    };
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        // Awoken at once, which is behind all that are ready.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    CROWD.with(|crowd| crowd.look(number));
}

impl Crowd {
    /// A number in the crowd; `None`: there is none.
    fn give_way(&self) -> Option<u32> {
        if let Some(left) = self.hurried.get().checked_sub(1) {
            self.hurried.set(left);
            return None;
        }
        let number = self.given.get().wrapping_add(1);
        self.given.set(number);
        let counts = self.counts.get();
        // One who is gone without having had its turn counts for ever.
        if counts.is_none_or(|first| number.wrapping_sub(first) > MANY) {
            self.counts.set(Some(number));
        }
        Some(number)
    }

    /// The first of those that wait looks how many have come behind it.
    fn look(&self, number: u32) {
        if self.counts.get() == Some(number) {
            self.counts.set(None);
            if self.given.get().wrapping_sub(number) < FEW {
                self.hurried.set(HURRIED);
            }
        }
    }
}

/// So few behind the first gain nothing by it: with 16 connections it made no difference.
const FEW: u32 = 7;
/// How many go on before a crowd is looked for again.
const HURRIED: u32 = 32;
/// More than give way between two looks at the sockets.
const MANY: u32 = 4096;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use futures_util::FutureExt;

    use super::*;

    /// What `count` tasks did that are ready at once, in its order: read (`false`), then send (`true`).
    async fn order(count: usize) -> Vec<bool> {
        let done = Rc::new(RefCell::new(Vec::new()));
        let tasks = (0..count).map(|_| {
            let done = Rc::clone(&done);
            tokio::task::spawn_local(async move {
                done.borrow_mut().push(false);
                others_first().await;
                done.borrow_mut().push(true);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        done.take()
    }

    async fn hurry(times: u32) {
        for _ in 0..times {
            assert_eq!(order(1).await, [false, true]);
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    #[test]
    fn a_crowd_reads_before_it_sends_and_few_do_not_wait() {
        run(async {
            let crowd = [[false; 20], [true; 20]].concat();
            hurry(HURRIED).await;
            assert_eq!(order(20).await, crowd);
            assert_eq!(order(20).await, crowd);
            // One that finds itself alone shows that the crowd is gone.
            hurry(1).await;
            assert_eq!(order(20).await, [false, true].repeat(20));
            hurry(HURRIED - 20).await;
            assert_eq!(order(20).await, crowd);
        });
    }

    #[test]
    fn who_leaves_without_its_turn_keeps_nobody_from_seeing_that_there_is_no_crowd() {
        run(async {
            hurry(HURRIED).await;
            let mut gone = Box::pin(others_first());
            assert!(gone.as_mut().now_or_never().is_none());
            drop(gone);
            // While that one counts, each gives way, alone or not.
            hurry(MANY + 1).await;
            assert_eq!(order(20).await, [false, true].repeat(20));
        });
    }
}
