//! The event stream on its way to the client: whole events as they come, heartbeats while the upstream
//! is silent, one last event when the stream must end. Between polls it holds nothing but the partial
//! tail of an event.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError};
use crate::clock::UnixSeconds;
use crate::forward::expiring::NAME;
use crate::forward::sse::Settings;
use crate::forward::sse::enrich::{Fields, is_chosen};
use crate::forward::sse::event;
use crate::forward::sse::framer::{Framer, Halfway};
use crate::refusal::Refusal;
use crate::streams::{End, Membership, Outcome, Told};

/// A followed event stream.
pub struct EventStream {
    inner: Body,
    phase: Phase,
    membership: Membership,
    settings: Arc<Settings>,
    fields: Option<Fields>,
    framer: Framer,
    alarm: Option<Pin<Box<Sleep>>>,
    /// The deadline of which the client is still to be warned; 0: of none.
    expiring: UnixSeconds,
    /// When the client last got something, and the upstream last said something.
    sent: Instant,
    heard: Instant,
    witness: Witness,
}

/// Where the stream stands in its life.
enum Phase {
    /// Nothing was sent yet.
    Opening,
    /// Events pass.
    Live,
    /// It must end, but the client has half an event; its end is awaited until then.
    Ending(End, Instant),
    /// Only the upstream's trailers are left.
    Trailers(Box<HeaderMap>),
    /// Everything was sent.
    Over,
}

/// Tells once how a stream came to its end; that the client left, if nothing else was told.
pub struct Witness(Option<Box<dyn FnOnce(Outcome)>>);

impl EventStream {
    /// Follows `inner`. `over` hears once how the stream came to its end.
    pub fn new(
        inner: Body,
        membership: Membership,
        settings: Arc<Settings>,
        over: impl FnOnce(Outcome) + 'static,
    ) -> Self {
        let now = Instant::now();
        Self {
            inner,
            phase: Phase::Opening,
            membership,
            settings,
            fields: None,
            framer: Framer::default(),
            alarm: None,
            expiring: 0,
            sent: now,
            heard: now,
            witness: Witness::new(over),
        }
    }

    /// What comes next while events pass: `Ready(None)` ends the stream.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(ours) = self.poll_told(cx) {
                return Poll::Ready(Some(ours));
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(frame) = self.take_in(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(self.break_off(error))),
                Poll::Ready(None) => {
                    self.finish(Outcome::Finished);
                    return Poll::Ready(self.framer.take_tail().map(|tail| Ok(Frame::data(tail))));
                }
                Poll::Pending => return self.poll_alarm(cx).map(Some),
            }
        }
    }

    /// A warning of the end, or the last event once the stream must end, while the client stands between two events.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Option<Result<Frame<Bytes>, BodyError>> {
        let notice = u64::from(self.settings.expiring.notice);
        let end = loop {
            match self.phase {
                Phase::Ending(end, _) => break end,
                _ => match self.membership.poll_told(cx, notice) {
                    Poll::Ready(Told::End(end)) => break end,
                    Poll::Ready(Told::Expiring(until)) => self.expiring = until,
                    Poll::Pending => return self.warn().map(Ok),
                },
            }
        };
        if self.framer.halfway() == Halfway::No {
            return Some(Ok(self.say_goodbye(Outcome::Told(end))));
        }
        if !matches!(self.phase, Phase::Ending(..)) {
            self.phase = Phase::Ending(end, Instant::now() + GRACE);
        }
        None
    }

    /// The warning that is due, unless it has become needless.
    fn warn(&mut self) -> Option<Frame<Bytes>> {
        if self.expiring == 0 || self.framer.halfway() == Halfway::Yes {
            return None;
        }
        let until = std::mem::take(&mut self.expiring);
        if self.membership.until() != Some(until) {
            return None;
        }
        let expiring = self.settings.expiring;
        let text = expiring.text(until, self.membership.now());
        let mut out = Vec::new();
        event::write(&mut out, NAME, text.as_bytes());
        self.sent = Instant::now();
        Some(Frame::data(Bytes::from(out)))
    }

    /// A frame of the upstream; `None` if it gives nothing to send yet.
    fn take_in(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => return self.take_trailers(frame),
        };
        self.heard = Instant::now();
        let (framer, settings) = (&mut self.framer, &self.settings);
        let (fields, membership) = (&mut self.fields, &self.membership);
        let out = framer.take_in(chunk, |event| {
            if !is_chosen(&settings.sse.enrich, event) {
                return None;
            }
            fields
                .get_or_insert_with(|| render(membership, settings))
                .rewrite(event)
        });
        self.sent = if out.is_empty() {
            self.sent
        } else {
            self.heard
        };
        (!out.is_empty()).then(|| Frame::data(out))
    }

    /// Trailers end the stream, behind a tail that was held.
    fn take_trailers(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let trailers = frame.into_trailers().ok()?;
        self.finish(Outcome::Finished);
        self.phase = Phase::Trailers(Box::new(trailers));
        self.framer.take_tail().map(Frame::data)
    }

    /// The upstream failed: the client hears of it in an event, unless it has half of another one. Then
    /// it must see the break itself, lest it take the half for a whole.
    fn break_off(&mut self, error: BodyError) -> Result<Frame<Bytes>, BodyError> {
        if self.framer.halfway() == Halfway::No {
            return Ok(self.say_goodbye(Outcome::UpstreamDisconnected));
        }
        self.finish(Outcome::UpstreamDisconnected);
        Err(error)
    }

    /// Waits for the nearest of heartbeat, idle time-out and grace.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame<Bytes>, BodyError>> {
        loop {
            let Some((due, alarm)) = self.next_alarm() else {
                return Poll::Pending;
            };
            let sleep = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // While events pass, the alarm stands at an old time: it is set right when it rings, not
            // at each event. Only one that comes sooner has to be set now.
            if sleep.deadline() > due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() < due {
                sleep.as_mut().reset(due);
                continue;
            }
            self.sent = Instant::now();
            match alarm {
                Alarm::Heartbeat if self.framer.halfway() == Halfway::Yes => {}
                Alarm::Heartbeat => {
                    return Poll::Ready(Ok(Frame::data(Bytes::from_static(event::HEARTBEAT))));
                }
                Alarm::Idle if self.framer.halfway() == Halfway::No => {
                    return Poll::Ready(Ok(self.say_goodbye(Outcome::UpstreamTimeout)));
                }
                Alarm::Idle => {
                    self.finish(Outcome::UpstreamTimeout);
                    return Poll::Ready(Err(BodyError::TimedOut));
                }
                Alarm::Grace(end) => {
                    self.finish(Outcome::Told(end));
                    return Poll::Ready(Err(BodyError::Ended));
                }
            }
        }
    }

    /// What would happen next if everybody stayed silent.
    fn next_alarm(&self) -> Option<(Instant, Alarm)> {
        if let Phase::Ending(end, due) = self.phase {
            return Some((due, Alarm::Grace(end)));
        }
        let heartbeat = self.settings.sse.heartbeat;
        let heartbeat = heartbeat.map(|after| (self.sent + after, Alarm::Heartbeat));
        let idle = self.settings.idle_timeout;
        let idle = idle.map(|after| (self.heard + after, Alarm::Idle));
        heartbeat
            .into_iter()
            .chain(idle)
            .min_by_key(|(due, _)| *due)
    }

    /// The last event of the stream. What is left of an unfinished one is dropped.
    fn say_goodbye(&mut self, outcome: Outcome) -> Frame<Bytes> {
        let settings = Arc::clone(&self.settings);
        let (refusal, name) = match outcome {
            Outcome::Told(end) => (end.refusal(), end.word()),
            Outcome::UpstreamTimeout => (Refusal::UpstreamTimeout, "error"),
            _ => (Refusal::UpstreamDisconnected, "error"),
        };
        let mut out = match outcome {
            // Coming back soon with the same credential would help nobody.
            Outcome::Told(End::Expired | End::Revoked) => Vec::new(),
            // Coming back soon would end the stream that took its place.
            Outcome::Told(End::StreamsExceeded) => event::retry(settings.sse.reject_retry),
            _ => event::retry(settings.sse.retry),
        };
        let json = match outcome {
            Outcome::Told(_) => event::error(refusal, settings.language, &[]),
            _ => {
                let fields = self.fields.take();
                let fields = fields.unwrap_or_else(|| render(&self.membership, &settings));
                event::error(refusal, settings.language, fields.as_slice())
            }
        };
        event::write(&mut out, name, &json);
        self.framer = Framer::default();
        self.finish(outcome);
        Frame::data(Bytes::from(out))
    }

    /// Lets go of the upstream, which cancels its work, and tells how it ended. A tail stays.
    fn finish(&mut self, outcome: Outcome) {
        self.inner = Body::Empty;
        self.phase = Phase::Over;
        self.alarm = None;
        self.witness.tell(outcome);
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.phase {
            Phase::Opening => {
                this.phase = Phase::Live;
                this.sent = Instant::now();
                if this.settings.sse.heartbeat.is_none() {
                    // Comments are switched off for clients that take them for errors, such as gradio_client.
                    return this.poll_live(cx);
                }
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(event::GREETING)))))
            }
            Phase::Live | Phase::Ending(..) => this.poll_live(cx),
            Phase::Trailers(trailers) => {
                let trailers = std::mem::take(&mut **trailers);
                this.phase = Phase::Over;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Phase::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }
}

impl Witness {
    /// Will tell `over`.
    pub fn new(over: impl FnOnce(Outcome) + 'static) -> Self {
        Self(Some(Box::new(over)))
    }

    /// Tells how the stream ended, the first time.
    pub fn tell(&mut self, outcome: Outcome) {
        if let Some(over) = self.0.take() {
            over(outcome);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.tell(Outcome::ClientLeft);
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// The fields of a stream's caller.
fn render(membership: &Membership, settings: &Settings) -> Fields {
    let permit = membership.permit();
    let identity = permit.identity().map(|identity| &**identity);
    Fields::of(identity, &settings.sse.enrich_fields)
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug)]
enum Alarm {
    Heartbeat,
    Idle,
    Grace(End),
}

/// How long a stream that must end may go on to the end of a long event.
const GRACE: Duration = Duration::from_millis(500);
