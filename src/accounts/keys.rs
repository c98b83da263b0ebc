//! The gateway's signing keys in the store: made at the first start, sealed, and followed by others. A new key is
//! published some time before it signs, and an old one verifies as long as tokens live that it signed.

use std::time::Duration;

use super::AccountError;
use crate::config;
use crate::identity::keyring::{NewKey, SigningKey};
use crate::identity::vault::{Purpose, Vault};
use crate::records::{KeyRecord, UnixMillis};
use crate::store::Store;

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Rotated {
    pub kid: Box<str>,
    pub signs_from: UnixMillis,
    /// Until when the keys before it verify.
    pub older_until: UnixMillis,
}

/// Makes the first key where there is none, and the next one where the config asks for another algorithm than the
/// newest key's. Safe when several replicas start at once.
///
/// # Errors
/// `Unavailable`, `Failed`.
pub async fn prepare(
    store: &dyn Store,
    vault: &Vault,
    config: &config::Accounts,
    now: UnixMillis,
) -> Result<(), AccountError> {
    let newest = store.keys().await?.into_iter().next();
    let algorithm = format!("{:?}", config.algorithm);
    match newest {
        Some(key) if *key.algorithm == *algorithm => Ok(()),
        Some(_) => rotate(store, vault, config, (now, None)).await.map(drop),
        None => {
            // Nobody holds an older one: it signs at once.
            let key = new_key(vault, config, (now, now, None))?;
            store.add_key(key, None, now).await?;
            Ok(())
        }
    }
}

/// Makes the next key, or takes the one that is given. It is published at once and signs after the config's `key_notice`; the older ones verify
/// until the last token that they sign has expired. If another process rotates at the same time, one of the
/// two keys is made, and both are told `Busy` or the new key.
///
/// # Errors
/// `Busy`, `Unavailable`, `Failed`.
pub async fn rotate(
    store: &dyn Store,
    vault: &Vault,
    config: &config::Accounts,
    (now, given): (UnixMillis, Option<NewKey>),
) -> Result<Rotated, AccountError> {
    let keys = store.keys().await?;
    let newest = keys.first().map(|key| key.kid.clone());
    let signs_from = match newest {
        Some(_) => now.saturating_add(millis(config.key_notice)),
        None => now,
    };
    let longest = longest_ttl(config) + GRACE;
    let older_until = signs_from.saturating_add(millis(longest));
    let key = new_key(vault, config, (now, signs_from, given))?;
    let kid = key.kid.clone();
    let added = store.add_key(key, newest.as_deref(), older_until).await?;
    if !added {
        return Err(AccountError::Busy {
            retry_after: Duration::from_secs(1),
        });
    }
    Ok(Rotated {
        kid,
        signs_from,
        older_until,
    })
}

fn new_key(
    vault: &Vault,
    config: &config::Accounts,
    (now, signs_from, given): (UnixMillis, UnixMillis, Option<NewKey>),
) -> Result<KeyRecord, AccountError> {
    let made = match given {
        Some(given) => given,
        None => SigningKey::make(config.algorithm).map_err(|error| AccountError::failed(&error))?,
    };
    let sealed = vault
        .seal(Purpose::SigningKeys, &made.kid, made.private.expose())
        .map_err(|error| AccountError::failed(&error))?;
    Ok(KeyRecord {
        kid: made.kid,
        algorithm: format!("{:?}", config.algorithm).into(),
        sealed,
        created_at: now,
        signs_from,
        verifies_until: None,
    })
}

/// How long access tokens live at most, in any API, and how long the app API renews expired ones.
fn longest_ttl(config: &config::Accounts) -> Duration {
    let apis = &config.apis;
    let app = apis.app.as_ref();
    let app_ttl = app.and_then(|api| api.access_ttl);
    let renewed = app.map(|api| app_ttl.unwrap_or(config.access_ttl) + api.renew_within);
    let token = apis.token.as_ref().map(|api| api.access_ttl);
    let supabase = apis.supabase.as_ref().and_then(|api| api.access_ttl);
    let all = [Some(config.access_ttl), renewed, token, supabase];
    all.into_iter().flatten().max().unwrap_or(config.access_ttl)
}

fn millis(time: Duration) -> UnixMillis {
    UnixMillis::try_from(time.as_millis()).unwrap_or(UnixMillis::MAX)
}

/// For clocks that differ, and keys that are cached elsewhere.
const GRACE: Duration = Duration::from_secs(900);
