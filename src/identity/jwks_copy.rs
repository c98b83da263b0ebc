//! The copy of a key set on disk, so that a restart without network finds the last good keys. Written
//! whole or not at all, readable by us alone, and bound to its URL.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::UnixSeconds;
use crate::config::JwksUrl;
use crate::identity::jwks_fetch::MAX_DOCUMENT;

/// What stands in the file.
#[derive(Deserialize, Serialize)]
struct Copy {
    url: Box<str>,
    fetched_at: UnixSeconds,
    document: String,
}

/// The document and when it was confirmed; `None` where there is no copy that may be used.
pub(crate) fn load(settings: &JwksUrl, now: UnixSeconds) -> Option<(Vec<u8>, Instant)> {
    let path = settings.cache_file.as_deref()?;
    let copy: Copy = serde_json::from_slice(&read(path).ok()?).ok()?;
    // A copy from the future would never grow old.
    let age = Duration::from_secs(now.checked_sub(copy.fetched_at)?);
    if copy.url != settings.url || age >= settings.max_stale {
        return None;
    }
    Some((copy.document.into_bytes(), Instant::now().checked_sub(age)?))
}

/// Writes the copy where the settings ask for one. A failure is logged: the keys in memory are good.
pub(crate) async fn save(settings: &JwksUrl, document: Vec<u8>, now: UnixSeconds) {
    let Some(path) = settings.cache_file.clone() else {
        return;
    };
    let (Ok(document), url) = (String::from_utf8(document), settings.url.clone()) else {
        return;
    };
    let copy = Copy {
        url,
        fetched_at: now,
        document,
    };
    let written = tokio::task::spawn_blocking(move || write(&path, &copy)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::warn!(url = %settings.url, "the copy of the keys could not be written");
    }
}

/// Reads a file of sensible size that nobody else can write: who can write it can sign tokens.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o022 != 0 {
        tracing::warn!(path = %path.display(), "the copy of the keys is writable by others and not used");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::new();
    // Quotes and backslashes are doubled in the file.
    file.take(2 * MAX_DOCUMENT as u64 + 4096)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, copy: &Copy) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    // Left over from a crash; `create_new` then cannot be led through a link.
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&serde_json::to_vec(copy)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
