//! Fetches a JWKS document: no redirect, no proxy, a total time-out, a cap on the body.

use std::time::Duration;

use http::StatusCode;
use http::header::ACCEPT;

use crate::config::JwksUrl;
use crate::identity::keyset::KeySetError;

/// The most bytes that a document may have.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// Why a fetch brought no keys. Words of our own: a library's message may quote what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FetchError {
    #[error("the HTTP client could not be set up")]
    Client,
    #[error("the source cannot be reached")]
    Unreachable,
    #[error("the source took too long")]
    Timeout,
    #[error("the source answered {0}")]
    Status(StatusCode),
    #[error("the source broke off")]
    BrokenOff,
    #[error("the document is larger than 256 KiB")]
    TooLarge,
    #[error("{0}")]
    KeySet(KeySetError),
}

/// The one client for all sources. A redirect is an answer like any other, and not a good one: the URL
/// comes from the configuration alone.
pub(crate) fn client() -> Result<reqwest::Client, FetchError> {
    builder().build().or_else(|_| {
        // A machine without root certificates still starts: its `https:` sources cannot be reached, and
        // nothing else minds.
        tracing::warn!("no root certificates: keys cannot be fetched over https");
        let none = builder().tls_certs_only([]).build();
        none.map_err(|_| FetchError::Client)
    })
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(5))
}

/// The document at the URL of `settings`, within its time-out.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    settings: &JwksUrl,
) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(settings.timeout, read(client, &settings.url))
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

async fn read(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let request = client.get(url).header(ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|_| FetchError::Unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| FetchError::BrokenOff)? {
        if document.len() + chunk.len() > MAX_DOCUMENT {
            return Err(FetchError::TooLarge);
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}
