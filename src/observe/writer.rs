//! Lines on their way to a sink, off the request path. Each thread appends to a buffer of its own; one
//! writer thread collects them and writes in batches. When the sink stalls, buffers fill to their bound and
//! lines are dropped and counted: a request never waits for a log.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Takes lines for one sink. Cheap to clone. The lines of one thread keep their order.
#[derive(Clone)]
pub struct Writer {
    desk: Arc<Desk>,
}

/// Held for as long as lines shall be written: dropping it writes what is left, waiting at most a second
/// for a sink that stalls.
#[must_use = "dropping it ends the writing"]
pub struct Flush {
    desk: Arc<Desk>,
    done: Receiver<()>,
}

struct Desk {
    shards: Box<[Shard]>,
    /// Set by the writer thread before it sleeps without a time limit; whoever clears it wakes it.
    asleep: AtomicBool,
    stop: AtomicBool,
    dropped: AtomicU64,
    thread: OnceLock<Thread>,
}

/// One thread's buffer, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Vec<u8>>);

impl Desk {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            thread: OnceLock::new(),
        }
    }
}

impl Writer {
    /// A writer that nobody empties: lines fill its bound and are dropped.
    pub fn idle() -> Self {
        let desk = Arc::new(Desk::new());
        Self { desk }
    }

    /// Starts the writer thread `name`, which writes to `out`. Fails where no thread can be started.
    pub fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let desk = Arc::new(Desk::new());
        let (finished, done) = sync_channel(1);
        let mine = desk.clone();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                mine.run(out);
                let _ = finished.send(());
            })?;
        let _ = desk.thread.set(handle.thread().clone());
        let flush = Flush {
            desk: desk.clone(),
            done,
        };
        Ok((Self { desk }, flush))
    }

    /// Takes one line, its line feed included; drops and counts it when this thread's buffer is full.
    pub fn push(&self, line: &[u8]) {
        let slot = SLOT.with(|slot| *slot) % self.desk.shards.len();
        let mut buffer = self.desk.shards[slot].lock();
        let before = buffer.len();
        if before + line.len() > SHARD_MAX {
            drop(buffer);
            self.desk.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.extend_from_slice(line);
        drop(buffer);
        let crossed = before <= SHARD_HURRY && before + line.len() > SHARD_HURRY;
        // The lock orders this load after the writer's store: it looked into this buffer after it.
        let asleep = self.desk.asleep.load(Ordering::Relaxed)
            && self.desk.asleep.swap(false, Ordering::Relaxed);
        if asleep || crossed {
            self.desk.wake();
        }
    }

    /// Lines that were dropped so far, because the sink stalled or failed.
    pub fn dropped(&self) -> u64 {
        self.desk.dropped.load(Ordering::Relaxed)
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.desk.stop.store(true, Ordering::Release);
        self.desk.wake();
        let _ = self.done.recv_timeout(FLUSH_WAIT);
    }
}

impl Desk {
    /// The life of the writer thread.
    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            let wrote = self.write_all(&mut out, &mut batch);
            if stopping {
                return;
            }
            if wrote {
                // Let the next lines gather: few large writes instead of many small ones.
                thread::park_timeout(GATHER);
            } else {
                self.sleep();
            }
        }
    }

    /// Writes what the buffers hold; tells whether there was anything.
    fn write_all(&self, out: &mut impl Write, batch: &mut Vec<u8>) -> bool {
        let mut wrote = false;
        for shard in &self.shards {
            std::mem::swap(&mut *shard.lock(), batch);
            if batch.is_empty() {
                continue;
            }
            wrote = true;
            if out.write_all(batch).and_then(|()| out.flush()).is_err() {
                let lines = memchr::memchr_iter(b'\n', batch).count() as u64;
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            batch.clear();
            batch.shrink_to(SHARD_KEEP);
        }
        wrote
    }

    /// Sleeps until a line comes or the end.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // A line that came before the flag was up is found here; one that comes later sees the flag.
        if self.shards.iter().all(|shard| shard.lock().is_empty()) {
            thread::park();
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Shard {
    /// The buffer. A thread that panicked while it held it left whole lines or a partial copy of bytes
    /// behind, never anything that must not be read.
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Which buffer this thread uses: threads spread evenly, and few ever share one.
    static SLOT: usize = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
}

static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

const SHARDS: usize = 64;
/// Bytes that one thread may have waiting.
const SHARD_MAX: usize = 1 << 20;
/// Bytes at which the writer is woken before its time.
const SHARD_HURRY: usize = 1 << 18;
/// The capacity that an emptied buffer keeps: what a busy interval fills, so that it need not grow again.
const SHARD_KEEP: usize = SHARD_HURRY;
const GATHER: Duration = Duration::from_millis(20);
const FLUSH_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sink that a test reads.
    #[derive(Clone, Default)]
    pub struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("not poisoned")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_every_thread_is_written_once_and_in_its_order() {
        let memory = Memory::default();
        let (writer, flush) = Writer::start("test-log", memory.clone()).expect("a thread starts");
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let writer = writer.clone();
                thread::spawn(move || {
                    for at in 0..500 {
                        writer.push(format!("{thread} {at}\n").as_bytes());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("the thread ends");
        }
        drop(flush);
        let text = memory.text();
        assert_eq!(text.lines().count(), 2000);
        for thread in 0..4 {
            let prefix = format!("{thread} ");
            let lines: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .collect();
            assert_eq!(lines, (0..500).map(|at| at.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(writer.dropped(), 0);
    }

    /// A sink that stalls until the test lets go of the other end.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_stalls_costs_lines_and_holds_nobody_up() {
        let (release, gate) = sync_channel::<()>(0);
        let (writer, flush) = Writer::start("test-log", Stalled(gate)).expect("a thread starts");
        let line = vec![b'x'; SHARD_MAX / 4];
        // At most one buffer is in the writer's hands and one is full; the rest must go.
        for _ in 0..12 {
            writer.push(&line);
        }
        assert!(writer.dropped() >= 3, "{}", writer.dropped());
        drop(release);
        drop(flush);
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_broken_sink_refuses_are_counted() {
        let (writer, flush) = Writer::start("test-log", Broken).expect("a thread starts");
        writer.push(b"one\n");
        writer.push(b"two\n");
        drop(flush);
        assert_eq!(writer.dropped(), 2);
    }
}
