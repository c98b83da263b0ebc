//! The client side of HTTP/1.1: its parts by tables, and the whole beside hyper's client.

mod differential;
mod framing;
mod heads;
mod reading;
mod sending;

use std::future::poll_fn;
use std::rc::Rc;

use http::{HeaderMap, Method, StatusCode};
use tokio::net::UnixStream;

use super::head::{self, AnswerHead};
use super::reading::{Exchanged, Reading};
use super::sending::Sending;
use crate::forward::pool::Pool;
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::wire::Wire;

/// An answer, whole.
#[derive(Debug, PartialEq)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// A connection, and the upstream's end of it.
fn connection() -> (Channel, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Channel::new(Wire::Unix(ours)), theirs)
}

/// Reads the head of the final answer.
async fn read_head(channel: &mut Channel) -> Result<AnswerHead, Fault> {
    poll_fn(|cx| head::poll_head(cx, channel, &mut |_, _| ())).await
}

/// Reads a head; the body is still to be read.
async fn begin(
    mut channel: Channel,
    method: &Method,
    sending: Option<Box<Sending>>,
    home: &Rc<Pool>,
) -> Result<(Answer, Reading), Fault> {
    let head = read_head(&mut channel).await?;
    let framing = head.framing(method)?;
    let exchanged = Exchanged {
        keeps_alive: head.keeps_alive(),
        channel,
        sending,
        home: Rc::clone(home),
    };
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body: Vec::new(),
        trailers: None,
    };
    Ok((answer, Reading::new(exchanged, framing)))
}

/// Reads a body to its end, and keeps what there was before a fault.
async fn finish(answer: &mut Answer, reading: &mut Reading) -> Result<(), Fault> {
    while let Some(frame) = poll_fn(|cx| reading.poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => answer.body.extend_from_slice(&data),
            Err(frame) => answer.trailers = frame.into_trailers().ok(),
        }
    }
    Ok(())
}
