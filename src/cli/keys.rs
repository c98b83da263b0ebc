//! `portcullis keys`: the gateway's own signing keys, listed and changed.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::opened::{self, Opened, Place};
use crate::accounts::keys;
use crate::identity::keyring::{NewKey, SigningKey};
use crate::identity::vault::Vault;
use crate::records::{KeyRecord, UnixMillis};

/// Look after the signing keys.
#[derive(clap::Args)]
pub struct Keys {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand)]
enum Call {
    /// List the keys, the newest first.
    List,
    /// Make the next key. Gateways publish it at once and sign with it after [accounts] `key_notice`; the one before
    /// verifies until its last token has expired. No request is refused on the way.
    Rotate(Rotate),
}

#[derive(clap::Args)]
struct Rotate {
    /// Take the key from standard input: a private key in PEM, or of HS256 the secret; of [accounts] `algorithm`. Before the
    /// first start it is the first key.
    #[arg(long)]
    given: bool,
    /// What tokens call it by (`kid`), where it was known by a name before.
    #[arg(long, requires = "given", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    kid: Option<String>,
}

/// Runs `portcullis keys …`.
///
/// # Errors
/// When the accounts cannot be opened, or no key can be made.
pub fn run(args: Keys) -> anyhow::Result<ExitCode> {
    let call = args.call;
    args.place.run(async |opened| {
        match call {
            Call::List => list(opened).await?,
            Call::Rotate(how) => rotate(opened, &how).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(opened: &Opened) -> anyhow::Result<()> {
    let keys = opened.store.keys().await?;
    let signs = signing(&keys, opened.now);
    let told: Vec<Value> = keys
        .iter()
        .map(|key| told(key, signs, opened.now))
        .collect();
    opened.print(&json!({ "keys": told }), || {
        let names = ["kid", "algorithm", "state", "signs_from", "verifies_until"];
        let mut rows = vec![names.map(str::to_owned).to_vec()];
        rows.extend(
            told.iter()
                .map(|key| names.map(|name| opened::cell(&key[name])).to_vec()),
        );
        opened::table(&rows)
    })
}

async fn rotate(opened: &Opened, how: &Rotate) -> anyhow::Result<()> {
    let vault = Vault::of(&opened.accounts.secret)?;
    let given = match how.given {
        true => Some(given(opened, how.kid.as_deref()).await?),
        false => None,
    };
    let when = (opened.now, given);
    let made = keys::rotate(&*opened.store, &vault, &opened.accounts, when).await?;
    opened.audit("keys_rotate", None, None);
    let (from, until) = (
        opened::time(Some(made.signs_from)),
        opened::time(Some(made.older_until)),
    );
    let value = json!({ "kid": made.kid, "signs_from": from, "older_until": until });
    opened.print(&value, || {
        let (from, until) = (opened::cell(&from), opened::cell(&until));
        format!(
            "{} signs from {from} on; the keys before it verify until {until}",
            made.kid
        )
    })
}

/// The key on standard input.
async fn given(opened: &Opened, kid: Option<&str>) -> anyhow::Result<NewKey> {
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("the key cannot be read")?;
    let algorithm = opened.accounts.algorithm;
    let key = SigningKey::given(algorithm, &text, kid)
        .with_context(|| format!("what was given is no key for {algorithm:?}"))?;
    let known = opened.store.keys().await?;
    if known.iter().any(|known| known.kid == key.kid) {
        anyhow::bail!("there is a key of this name: {}", key.kid);
    }
    Ok(key)
}

/// Bytes; of no key are there more.
const LONGEST: u64 = 64 * 1024;

/// The key that signs now: the newest whose time has come.
fn signing(keys: &[KeyRecord], now: UnixMillis) -> Option<&str> {
    let begun = keys
        .iter()
        .filter(|key| key.signs_from <= now && state(key, None, now) != "ended");
    begun.max_by_key(|key| key.signs_from).map(|key| &*key.kid)
}

fn told(key: &KeyRecord, signs: Option<&str>, now: UnixMillis) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "state": state(key, signs, now),
        "created_at": opened::time(Some(key.created_at)),
        "signs_from": opened::time(Some(key.signs_from)),
        "verifies_until": opened::time(key.verifies_until),
    })
}

fn state(key: &KeyRecord, signs: Option<&str>, now: UnixMillis) -> &'static str {
    match key {
        key if key.verifies_until.is_some_and(|until| until <= now) => "ended",
        key if signs == Some(&*key.kid) => "signs",
        key if key.signs_from > now => "published",
        _ => "verifies",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, signs_from: UnixMillis, verifies_until: Option<UnixMillis>) -> KeyRecord {
        KeyRecord {
            kid: kid.into(),
            algorithm: "ES256".into(),
            sealed: [].into(),
            created_at: 0,
            signs_from,
            verifies_until,
        }
    }

    #[test]
    fn the_newest_whose_time_has_come_signs() {
        let keys = [
            key("c", 300, None),
            key("b", 200, Some(900)),
            key("a", 100, Some(210)),
        ];
        let states = |now| {
            let signs = signing(&keys, now);
            keys.each_ref().map(|key| state(key, signs, now))
        };
        assert_eq!(states(150), ["published", "published", "signs"]);
        assert_eq!(states(205), ["published", "signs", "verifies"]);
        assert_eq!(states(299), ["published", "signs", "ended"]);
        assert_eq!(states(300), ["signs", "verifies", "ended"]);
        assert_eq!(states(900), ["signs", "ended", "ended"]);
    }
}
