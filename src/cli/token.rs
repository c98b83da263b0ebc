//! `portcullis token`: make a token, look into one, hold one against a config. A token given as `-` is read
//! from standard input, so that it stands in no shell history and no process list.

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};

use crate::cli::check::config_path;
use crate::clock::{Clock, UnixSeconds};
use crate::config::units::duration;
use crate::config::{self, Config, Issuer, KeySource};
use crate::identity::issuer::KeySources;
use crate::identity::jwks::JwksSources;
use crate::identity::jwt::Jws;
use crate::identity::mint::MintKey;
use crate::identity::validity::MILLISECONDS;
use crate::identity::verifier::{Step, Verifier};

/// Make, inspect and verify tokens.
#[derive(clap::Args)]
pub struct Token {
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand)]
enum Call {
    /// Sign a token as one of the config's issuers would.
    Mint(Mint),
    /// Show what a token says, believing none of it.
    Inspect(Inspect),
    /// Hold a token against the config's issuers, step by step; exit code 1 when it is refused.
    Verify(Verify),
}

#[derive(clap::Args)]
struct Mint {
    /// The config that names the issuer [default: $PORTCULLIS_CONFIG, else portcullis.toml]
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The issuer's name in the config; not needed where there is only one.
    #[arg(long)]
    issuer: Option<String>,
    /// Whom the token is for.
    #[arg(long)]
    sub: String,
    /// More claims, as NAME=VALUE. A value that is JSON is taken as JSON, anything else as text.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// How long it is valid: "90s", "15m", "1h".
    #[arg(long, default_value = "1h", value_parser = seconds)]
    ttl: u64,
    /// The private key as PEM, where the issuer has no shared secret.
    #[arg(long)]
    key: Option<PathBuf>,
    /// The key's id in the token's header.
    #[arg(long)]
    kid: Option<String>,
}

#[derive(clap::Args)]
struct Inspect {
    /// The token, or `-` for standard input.
    token: String,
}

#[derive(clap::Args)]
struct Verify {
    /// The config whose issuers count [default: $PORTCULLIS_CONFIG, else portcullis.toml]
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The token, or `-` for standard input.
    token: String,
}

/// Runs `portcullis token …`.
///
/// # Errors
/// When the config, the key or the token cannot be read.
pub fn run(args: Token) -> anyhow::Result<ExitCode> {
    match args.call {
        Call::Mint(mint) => mint.run(),
        Call::Inspect(inspect) => inspect.run(),
        Call::Verify(verify) => verify.run(),
    }
}

impl Mint {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&config_path(self.config.clone()))?;
        let token = self.mint(&config.issuers, Clock::System.now())?;
        super::say(format!("{token}\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    fn mint(&self, issuers: &[Issuer], now: UnixSeconds) -> anyhow::Result<String> {
        let issuer = self.issuer_in(issuers)?;
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(issuer.iss));
        if let Some(audience) = issuer.audience.first() {
            claims.insert("aud".to_owned(), json!(audience));
        }
        claims.insert("sub".to_owned(), json!(self.sub));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(now.saturating_add(self.ttl)));
        claims.extend(self.claims.iter().cloned());
        let mut key = self.key_of(issuer)?;
        if let Some(kid) = &self.kid {
            key = key.with_kid(kid);
        }
        Ok(key.mint(&claims)?)
    }

    fn issuer_in<'c>(&self, issuers: &'c [Issuer]) -> anyhow::Result<&'c Issuer> {
        let names = || {
            let names: Vec<&str> = issuers.iter().map(|issuer| &*issuer.name).collect();
            names.join(", ")
        };
        match (&self.issuer, issuers) {
            (None, [only]) => Ok(only),
            (None, _) => bail!("--issuer must be one of: {}", names()),
            (Some(name), _) => issuers
                .iter()
                .find(|issuer| *issuer.name == **name)
                .with_context(|| format!("no issuer is named {name}; there are: {}", names())),
        }
    }

    fn key_of(&self, issuer: &Issuer) -> anyhow::Result<MintKey> {
        let algorithm = *issuer
            .algorithms
            .first()
            .context("the issuer lists no algorithm")?;
        match (&self.key, &issuer.keys) {
            (None, KeySource::Secret(secret)) => Ok(MintKey::secret(algorithm, secret.expose())?),
            (Some(_), KeySource::Secret(_)) => {
                bail!("this issuer has a shared secret; leave --key away")
            }
            (None, _) => bail!("this issuer has public keys only; give the private one with --key"),
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                MintKey::pem(algorithm, &text)
                    .with_context(|| format!("{} is no key for {algorithm:?}", path.display()))
            }
        }
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<ExitCode> {
        let token = read_token(&self.token)?;
        let now = Clock::System.now();
        let mut parts = token.split('.');
        let header =
            decoded(parts.next().unwrap_or_default()).context("the header cannot be read")?;
        let claims =
            decoded(parts.next().unwrap_or_default()).context("the claims cannot be read")?;
        let mut text = format!(
            "header  {}\nclaims  {}\n",
            serde_json::to_string_pretty(&header)?,
            serde_json::to_string_pretty(&claims)?
        );
        for name in ["auth_time", "iat", "nbf", "exp"] {
            if let Some(time) = claims.get(name) {
                writeln!(text, "{name:9}  {}", dated(time, now))?;
            }
        }
        for warning in warnings(&token, &header, &claims, now) {
            writeln!(text, "warning  {warning}")?;
        }
        text.push_str("Nothing of this was verified: `portcullis token verify` does that.\n");
        super::say(text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&config_path(self.config))?;
        let token = read_token(&self.token)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (steps, warnings) = runtime.block_on(examine(config, &token))?;
        let accepted = steps.iter().all(|step| step.outcome.is_ok());
        let mut text = String::new();
        for warning in warnings {
            writeln!(text, "warning  {warning}")?;
        }
        for step in &steps {
            match &step.outcome {
                Ok(found) => writeln!(text, "ok       {:10} {found}", step.what)?,
                Err(refusal) => writeln!(text, "refused  {:10} {}", step.what, refusal.word())?,
            }
        }
        text.push_str(if accepted { "accepted\n" } else { "refused\n" });
        super::say(text)?;
        Ok(match accepted {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(1),
        })
    }
}

/// Every step of the token's way, with keys that are fetched now, and which could not be.
async fn examine(mut config: Config, token: &str) -> anyhow::Result<(Vec<Step>, Vec<String>)> {
    for issuer in &mut config.issuers {
        if let KeySource::JwksUrl(settings) = &mut issuer.keys {
            // The copy on disk belongs to the gateway, which may run as another user.
            settings.cache_file = None;
        }
    }
    let runtime = tokio::runtime::Handle::current();
    let sources = JwksSources::fetching(runtime, Clock::System);
    let sources = KeySources {
        jwks: &sources,
        own: None,
    };
    let verifier = Verifier::build(&config, sources, Clock::System)?;
    while verifier
        .key_status()
        .any(|(_, status)| !status.loaded && status.last_error.is_none())
    {
        // The fetch has a time-out of its own, so that this ends.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failures = verifier.key_status().filter_map(|(issuer, status)| {
        let error = status.last_error?;
        Some(format!(
            "the keys of {issuer} could not be fetched: {error}"
        ))
    });
    Ok((verifier.examine(token), failures.collect()))
}

/// The token itself: the argument, or standard input for `-`. A pasted `Bearer ` is no part of it.
fn read_token(argument: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    if argument == "-" {
        std::io::stdin()
            .take(MAX_INPUT)
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
    } else {
        text.push_str(argument);
    }
    let token = text.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    if token.is_empty() {
        bail!("there is no token");
    }
    Ok(token.to_owned())
}

/// One part of a token as JSON, whatever it says.
fn decoded(part: &str) -> anyhow::Result<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part.trim_end_matches('='))
        .context("it is not base64url")?;
    serde_json::from_slice(&bytes).context("it is not a JSON object")
}

/// A `NumericDate` for people: the date, and how far away it is.
fn dated(time: &Value, now: UnixSeconds) -> String {
    let date = time
        .as_f64()
        .map(|seconds| seconds as i64)
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let Some(date) = date else {
        return format!("{time} is no date");
    };
    let away = date.as_second() - now.cast_signed();
    match away {
        0 => format!("{date} (now)"),
        1.. => format!("{date} (in {})", span(away.unsigned_abs())),
        _ => format!("{date} ({} ago)", span(away.unsigned_abs())),
    }
}

/// The two largest units: "2d 3h", "4m 10s".
fn span(seconds: u64) -> String {
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|unit| unit.0 > 0).unwrap_or(3);
    let shown: Vec<String> = units[first..]
        .iter()
        .take(2)
        .filter(|unit| unit.0 > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

/// What is remarkable about a token that nobody has verified.
fn warnings(
    token: &str,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
    now: UnixSeconds,
) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(refusal) = Jws::read(token) {
        found.push(format!("the gateway refuses its form: {}", refusal.word()));
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    if algorithm.is_none_or(|name| name.parse::<Algorithm>().is_err()) {
        found.push("alg names no algorithm that the gateway knows".to_owned());
    }
    for name in ["jku", "x5u", "jwk", "x5c", "crit"] {
        if header.contains_key(name) {
            found.push(format!(
                "{name} is in the header; the gateway never follows it"
            ));
        }
    }
    match claims.get("exp").map(Value::as_f64) {
        None => found.push("exp is missing: it would never end".to_owned()),
        Some(None) => found.push("exp is no number".to_owned()),
        Some(Some(exp)) if exp <= now as f64 => found.push("it has expired".to_owned()),
        Some(Some(exp)) if exp > MILLISECONDS as f64 => {
            found.push("exp looks like milliseconds; it must be seconds".to_owned());
        }
        Some(Some(_)) => {}
    }
    if !claims.get("sub").is_some_and(Value::is_string) {
        found.push("sub is missing: it names no user".to_owned());
    }
    found
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn seconds(text: &str) -> Result<u64, String> {
    duration(text)
        .map(|duration| duration.as_secs())
        .map_err(|wrong| wrong.to_string())
}

/// Far more than any token: what standard input may hold.
const MAX_INPUT: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn a_claim_is_json_where_it_can_be() {
        for (text, expected) in [
            ("a=1", json!(1)),
            ("a=true", json!(true)),
            ("a=b", json!("b")),
            (r#"a={"b":["c"]}"#, json!({ "b": ["c"] })),
            ("a=x=y", json!("x=y")),
        ] {
            assert_eq!(claim(text), Ok(("a".to_owned(), expected)), "{text}");
        }
        assert!(claim("a").is_err());
    }

    #[tokio::test]
    async fn what_was_minted_is_accepted_until_it_expires() {
        let mint = |ttl| Mint {
            config: None,
            issuer: Some("demo".to_owned()),
            sub: "somebody".to_owned(),
            claims: vec![("role".to_owned(), json!("admin"))],
            ttl,
            key: None,
            kid: None,
        };
        for (ttl, age, refusal) in [(60, 0, None), (60, 60 * 60, Some(Refusal::TokenExpired))] {
            let config = config();
            let issued = Clock::System.now() - age;
            let token = mint(ttl).mint(&config.issuers, issued).unwrap();
            let (steps, _) = examine(config, &token).await.unwrap();
            let last = steps.last().unwrap();
            assert_eq!(last.outcome.as_ref().err().copied(), refusal, "{last:?}");
        }
    }

    fn config() -> Config {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8000));
        let text = crate::demo::gateway::Key::random()
            .unwrap()
            .config((address, address), "".as_ref());
        config::parse(&text, "demo.toml".as_ref(), &|_| None).unwrap()
    }

    #[test]
    fn dates_say_how_far_away_they_are() {
        assert_eq!(dated(&json!(3661), 0), "1970-01-01T01:01:01Z (in 1h 1m)");
        assert_eq!(dated(&json!(10), 100), "1970-01-01T00:00:10Z (1m 30s ago)");
        assert_eq!(dated(&json!("soon"), 0), "\"soon\" is no date");
    }

    #[test]
    fn warnings_name_what_would_be_refused() {
        let of = |header: Value, claims: Value| {
            let (header, claims) = (header.as_object().unwrap(), claims.as_object().unwrap());
            warnings("a.b.c", header, claims, 1_000).join("; ")
        };
        let found = of(json!({ "alg": "none", "jku": "x" }), json!({}));
        for part in ["alg", "jku", "exp is missing", "sub is missing"] {
            assert!(found.contains(part), "{part} in {found}");
        }
        let found = of(json!({ "alg": "HS256" }), json!({ "exp": 999, "sub": "a" }));
        assert!(
            found.contains("expired") && !found.contains("sub"),
            "{found}"
        );
        let found = of(
            json!({ "alg": "HS256" }),
            json!({ "exp": 1.8e12, "sub": "a" }),
        );
        assert!(found.contains("milliseconds"), "{found}");
    }
}
