//! How many passwords one thread holds against their hashes in a second, with nothing around it: what `benches/accounts`
//! compares log-ins with.
//!
//! `passwords SECONDS`: a line of JSON. The hashes are those that the gateway makes by default.

#![expect(clippy::print_stdout, reason = "its line is its answer")]

use std::time::{Duration, Instant};

use anyhow::Context;
use portcullis::accounts::hashes::{Match, Memory, compare, make};
use portcullis::config::{PasswordHash, Passwords};
use portcullis::secret::Secret;

fn main() -> anyhow::Result<()> {
    // `cargo bench` and `cargo test` ask every target something; without a time there is nothing to do.
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else {
        return Ok(());
    };
    let how = Passwords {
        hash: PasswordHash::Argon2id,
        min_length: 8,
        require: Vec::new(),
        require_current: false,
        require_recent: None,
        argon2_memory: 19 * 1024,
        argon2_iterations: 2,
        argon2_parallelism: 1,
        bcrypt_cost: 10,
        threads: 1,
        queue: 1,
    };
    let password = Secret::new("correct horse battery".to_owned());
    let mut memory = Memory::default();
    let hash = make(&how, &password, &mut memory).ok();
    let hash = hash.context("no hash could be made")?;
    let (begin, window) = (Instant::now(), Duration::from_secs(seconds));
    let mut count = 0_u32;
    while begin.elapsed() < window {
        anyhow::ensure!(compare(&how, &password, &hash, &mut memory) == Match::Yes);
        count += 1;
    }
    let took = begin.elapsed().as_secs_f64();
    let rate = f64::from(count) / took;
    println!("{{\"count\":{count},\"secs\":{took:.3},\"rate\":{rate:.2}}}");
    Ok(())
}
