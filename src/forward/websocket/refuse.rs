//! Says no in the one way that a browser's page can read: the handshake was accepted, now comes a text
//! message with the error body, then a close frame with a code and the error's word.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::forward::websocket::frames::{self, Close, Follower, Sender};

/// What is said before the close.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'r> {
    /// The error body, JSON.
    pub body: &'r str,
    /// The close code.
    pub code: u16,
    /// The error's word.
    pub word: &'r str,
}

/// Says `reason` to a client whose handshake was accepted, waits shortly for its answer, and closes.
/// What the client sends meanwhile is thrown away.
pub async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, reason: Reason<'_>) {
    let mut goodbye = frames::text(reason.body);
    goodbye.extend(frames::close(reason.code, reason.word, Sender::Server));
    let said = async {
        io.write_all(&goodbye).await?;
        io.flush().await?;
        hear_close(&mut io).await?;
        io.shutdown().await
    };
    // Whether the client heard it or left before makes no difference to us.
    let _ = tokio::time::timeout(PATIENCE, said).await;
}

/// Reads until the client has closed too. Closing with its bytes unread would reset the connection, and
/// our reason with it.
async fn hear_close(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut follower = Follower::default();
    // Small: it is held while waiting, by every client that is refused.
    let mut buffer = [0; 256];
    while follower.close() == Close::Awaited {
        let size = io.read(&mut buffer).await?;
        if size == 0 {
            break;
        }
        follower.follow(&buffer[..size]);
    }
    Ok(())
}

/// How long the client has to take it all.
const PATIENCE: Duration = Duration::from_secs(2);
