//! A process that is killed in the middle of its writes has lost nothing that it was told is kept.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use uuid::Uuid;

use super::{Folder, named, session_of, sqlite_at, wait};
use crate::records::{Api, Session, SessionId, UserId};
use crate::store::{Change, Sessions, open};

/// How often it is killed, each time after a few more lines.
const ROUNDS: usize = 36;

/// Which file the child writes to; without it, the child's test does nothing.
const FILE: &str = "PORTCULLIS_TEST_KILL";

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let folder = Folder::new();
    let path = folder.file("a.db");
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::kill::the_child_writes",
                "--nocapture",
            ])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        for _ in 0..5 + round * 3 {
            assert!(told.hear(&mut lines), "the child ended by itself");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts too.
        while told.hear(&mut lines) {}
        told.check(&path);
    }
    assert!(told.users.len() > ROUNDS, "{}", told.users.len());
}

/// What the child said is kept.
#[derive(Default)]
struct Told {
    users: Vec<UserId>,
    /// The last counter of each session, and whether it ended.
    sessions: HashMap<SessionId, (u64, bool)>,
}

impl Told {
    /// Takes one line; `false` at the end. A line without its end was not said.
    fn hear(&mut self, lines: &mut impl BufRead) -> bool {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let Some(line) = line.strip_suffix('\n') else {
            return false;
        };
        let words: Vec<&str> = line.split(' ').collect();
        let id = |word: &str| word.parse::<Uuid>().unwrap();
        match words[..] {
            ["kept", "user", user] => self.users.push(UserId(id(user))),
            ["kept", "count", session, count] => {
                let count = count.parse().unwrap();
                self.sessions.insert(SessionId(id(session)), (count, false));
            }
            ["kept", "ended", session] => {
                self.sessions.get_mut(&SessionId(id(session))).unwrap().1 = true;
            }
            // What the test harness says.
            _ => {}
        }
        true
    }

    fn check(&self, path: &Path) {
        let store = open(&sqlite_at(path)).unwrap();
        wait(async {
            for user in &self.users {
                assert!(store.user(*user).await.unwrap().is_some());
            }
            for (id, (count, ended)) in &self.sessions {
                let (session, _) = store.session(*id).await.unwrap().unwrap();
                assert!(session.refresh_counter >= *count);
                assert!(session.ended_at.is_some() || !ended);
            }
        });
    }
}

/// Run by the test above, in a process of its own.
#[test]
fn the_child_writes() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let store = open(&sqlite_at(Path::new(&path))).unwrap();
    super::at_once(4, async |_| {
        loop {
            let name = super::fresh().simple().to_string();
            let user = store.add_user(named(&name)).await.unwrap();
            say(&format!("kept user {}", user.id));
            let session = store.add_session(session_of(user.id, Api::Token)).await;
            let session = session.unwrap().unwrap().session;
            for _ in 0..3 {
                let rotate = |session: &Session, _: &_| {
                    Change::Write(Session {
                        refresh_counter: session.refresh_counter + 1,
                        ..session.clone()
                    })
                };
                let changed = store.change_session(session.id, Box::new(rotate)).await;
                let counter = changed.unwrap().unwrap().refresh_counter;
                say(&format!("kept count {} {counter}", session.id));
            }
            let end = store.end_sessions(Sessions::One(session.id), 5).await;
            assert_eq!(end.unwrap(), [session.id]);
            say(&format!("kept ended {}", session.id));
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        std::process::exit(0);
    }
}
