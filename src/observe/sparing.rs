//! For log lines that every request could write, where something is away and clients keep asking: the first is
//! written at once, then one a second, which tells how many were held back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whose turn it is to write a line. Shared by all who would write it.
#[derive(Debug)]
pub struct Sparing {
    born: Instant,
    /// When the next line may be written, in milliseconds since `born`.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl Default for Sparing {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            next: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }
}

impl Sparing {
    /// How many lines were held back since the last one, where this one is to be written; `None`: it is held back too.
    pub fn turn(&self) -> Option<u64> {
        self.turn_at(self.born.elapsed())
    }

    fn turn_at(&self, now: Duration) -> Option<u64> {
        let now = now.as_millis() as u64;
        let next = self.next.load(Ordering::Relaxed);
        let mine = now >= next
            && self
                .next
                .compare_exchange(next, now + PAUSE, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Milliseconds from one line to the next.
const PAUSE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_written_then_one_a_second_that_counts_the_others() {
        let sparing = Sparing::default();
        let told = [0, 1, 999, 1000, 1500, 1999, 2000, 9000, 9001]
            .map(|millis| sparing.turn_at(Duration::from_millis(millis)));
        let expected = [
            Some(0),
            None,
            None,
            Some(2),
            None,
            None,
            Some(2),
            Some(0),
            None,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn of_many_at_once_one_writes_and_none_is_forgotten() {
        let sparing = Sparing::default();
        let ask = || -> Vec<u64> {
            let turns = (0..1000).map(|_| sparing.turn_at(Duration::ZERO));
            turns.flatten().collect()
        };
        let written: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let each = threads.into_iter().map(|thread| thread.join().unwrap());
            each.flatten().collect()
        });
        assert_eq!(written.len(), 1, "lines at the same instant");
        // Whoever writes may already tell of others that came between its turn and its count.
        let later = sparing.turn_at(Duration::from_secs(1)).unwrap();
        assert_eq!(written[0] + later, 3999);
    }
}
