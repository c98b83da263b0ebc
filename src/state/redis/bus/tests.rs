//! The bus over real servers.

use tokio::sync::{mpsc, watch};

use super::*;
use crate::state::redis::testing::Server;

/// What a gateway hears, to be waited for.
struct Ear {
    heard: mpsc::UnboundedReceiver<String>,
    up_to: watch::Receiver<Option<Instant>>,
    bus: Arc<Bus>,
    _run: Running,
}

struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const HISTORY: usize = 1000;

impl Ear {
    /// A gateway that hears already.
    async fn on(server: &Server) -> Self {
        let bus = Bus::new(&server.handle(), HISTORY);
        let (tell, heard) = mpsc::unbounded_channel();
        let (note, up_to) = watch::channel(None);
        let run = Arc::clone(&bus).run(move |heard| match heard {
            Heard::News(news) => tell.send(news.to_owned()).unwrap(),
            Heard::Gap => tell.send("gap".to_owned()).unwrap(),
            Heard::UpTo(when) => drop(note.send_replace(Some(when))),
        });
        let run = Running(tokio::spawn(run));
        let ear = Self {
            heard,
            up_to,
            bus,
            _run: run,
        };
        ear.current().await;
        ear
    }

    /// Waits until all is heard that was told before now.
    async fn current(&self) {
        let now = Instant::now();
        let mut up_to = self.up_to.clone();
        let heard = up_to.wait_for(|when| when.is_some_and(|when| when >= now));
        heard.await.unwrap();
    }

    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(20), self.heard.recv()).await;
        next.expect("something is heard").unwrap()
    }

    /// What was heard up to now.
    async fn all(&mut self) -> Vec<String> {
        self.current().await;
        let mut all = Vec::new();
        while let Ok(news) = self.heard.try_recv() {
            all.push(news);
        }
        all
    }
}

#[tokio::test]
async fn all_others_hear_each_piece_of_news_once_and_in_order() {
    let server = Server::start().await;
    let (one, mut two, mut three) = (
        Ear::on(&server).await,
        Ear::on(&server).await,
        Ear::on(&server).await,
    );
    let expected: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    for news in &expected {
        one.bus.tell(news.as_str());
    }
    for ear in [&mut two, &mut three] {
        for news in &expected {
            assert_eq!(ear.next().await, *news);
        }
    }
    let mut one = one;
    assert_eq!(one.all().await, [""; 0], "its own it does not hear");
}

#[tokio::test]
async fn who_comes_later_does_not_hear_what_was_told_before() {
    let server = Server::start().await;
    let mut one = Ear::on(&server).await;
    one.bus.tell("old");
    one.bus.flush().await.unwrap();
    let mut two = Ear::on(&server).await;
    two.bus.tell("new");
    assert_eq!(one.next().await, "new");
    assert_eq!(two.all().await, [""; 0]);
}

#[tokio::test]
async fn who_was_cut_off_hears_what_it_missed_before_it_is_up_to_date() {
    let server = Server::start().await;
    let mut one = Ear::on(&server).await;
    let teller = Bus::new(&server.handle(), HISTORY);
    // Its connections break off under it, again and again.
    let handle = server.handle();
    for round in 0..5 {
        let kill = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("NORMAL")
            .to_owned();
        let _: Result<(), Away> = handle.call(&kill).await;
        let news = round.to_string();
        teller.tell(news.as_str());
        teller.flush().await.unwrap();
        assert_eq!(one.all().await, [news]);
    }
}

#[tokio::test]
async fn who_was_away_for_longer_than_the_stream_reaches_is_told_so() {
    let server = Server::start().await;
    let mut one = Ear::on(&server).await;
    let handle = server.handle();
    // All it could still find is younger than its place.
    let script = Script::new(
        "redis.call('XADD', KEYS[1], '*', 'from', 'x', 'news', 'a')
         redis.call('XADD', KEYS[1], '*', 'from', 'x', 'news', 'b')
         return redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)",
    );
    handle.script::<i64>(&script, &["news"], 0).await.unwrap();
    assert_eq!(one.next().await, "gap");
    assert_eq!(one.next().await, "b");
}

#[tokio::test]
async fn a_server_that_lost_its_memory_is_a_gap_and_is_told_again() {
    let mut server = Server::start().await;
    let (mut one, two) = (Ear::on(&server).await, Ear::on(&server).await);
    two.bus.tell("first");
    assert_eq!(one.next().await, "first");
    server.down();
    two.bus.tell("meanwhile");
    server.up().await;
    assert_eq!(one.next().await, "gap");
    // What is told again may come before or behind what had waited.
    let mut awaited = vec!["first", "meanwhile"];
    while !awaited.is_empty() {
        let heard = one.next().await;
        awaited.retain(|news| *news != heard);
    }
}

#[tokio::test]
async fn a_server_that_was_emptied_is_a_gap() {
    let server = Server::start().await;
    let mut one = Ear::on(&server).await;
    let handle = server.handle();
    handle.call::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
    assert_eq!(one.next().await, "gap");
    one.current().await;
}

#[tokio::test]
async fn while_the_server_stands_still_nobody_is_up_to_date() {
    let server = Server::start().await;
    let one = Ear::on(&server).await;
    server.signal("STOP");
    tokio::time::sleep(one.bus.silence()).await;
    let heard = one.up_to.borrow().unwrap();
    assert!(heard.elapsed() >= one.bus.silence() - WAIT);
    server.signal("CONT");
    one.current().await;
}

#[tokio::test]
async fn what_an_entry_says_that_is_not_understood_is_a_gap() {
    let server = Server::start().await;
    let mut one = Ear::on(&server).await;
    let mut command = redis::cmd("XADD");
    command.arg("test:news").arg("*").arg("from").arg("x");
    command.arg("prophecy").arg(1).arg("news").arg("a");
    server.handle().call::<String>(&command).await.unwrap();
    assert_eq!(one.next().await, "gap");
    assert_eq!(one.next().await, "a");
}
