//! The tunnel between a client and an upstream that have agreed on a WebSocket: two flows, and what the
//! gateway adds to them: a greeting, pings to the client, and a close frame to both when it must end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use crate::config;
use crate::forward::expiring::Expiring;
use crate::forward::websocket::flow::{Broken, Flow};
use crate::forward::websocket::frames::{self, Close, Sender};
use crate::streams::{End, Membership, Outcome, Told};

/// One end of the tunnel.
#[derive(Debug)]
pub struct Side<T> {
    /// The connection.
    pub io: T,
    /// What it has sent behind its handshake already.
    pub early: Bytes,
}

/// What the gateway adds to a tunnel.
#[derive(Debug)]
pub struct Part {
    /// The text of a first message to the client.
    pub greeting: Option<String>,
    /// The rest, which all tunnels of a route share.
    pub plan: Arc<Plan>,
}

/// What the gateway adds to the tunnels of a route.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Silence towards the client after which it is pinged; `None`: never.
    pub ping_interval: Option<Duration>,
    /// Silence of the client after which the tunnel ends; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// How long the client may take nothing of what waits for it.
    pub send_timeout: Duration,
    /// The close code when the caller's authority ends.
    pub close_unauthenticated: u16,
    /// The close code where it must give way to another of the caller's.
    pub close_limited: u16,
    /// The warning before it does.
    pub expiring: Expiring,
}

/// What became of a tunnel, for the access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it came to its end.
    pub outcome: Outcome,
    /// Bytes that the client sent behind the handshake.
    pub from_client: u64,
    /// Bytes that the upstream sent behind the handshake.
    pub from_upstream: u64,
}

/// Passes bytes both ways until both sides have ended, one breaks, or the membership ends.
/// Drops both connections at last.
pub fn tunnel<C, U>(
    client: Side<C>,
    upstream: Side<U>,
    membership: Membership,
    part: Part,
) -> impl Future<Output = Report>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    // Built here and not in the future, which would keep the arguments beside what is made of them.
    let mut tunnel = Tunnel::new(client, upstream, membership, part);
    async move {
        let outcome = poll_fn(|cx| tunnel.poll(cx)).await;
        Box::pin(tunnel.shut()).await;
        Report {
            outcome,
            from_client: tunnel.to_upstream.passed(),
            from_upstream: tunnel.to_client.passed(),
        }
    }
}

struct Tunnel<C, U> {
    client: C,
    upstream: U,
    to_client: Flow,
    to_upstream: Flow,
    membership: Membership,
    plan: Arc<Plan>,
    phase: Phase,
    alarm: Option<Pin<Box<Sleep>>>,
    /// When the client last got something, and last said something.
    sent: Instant,
    heard: Instant,
    /// Since when the client takes nothing of what waits for it.
    stuck: Option<Instant>,
}

/// Where the tunnel stands in its life.
#[derive(Clone, Copy)]
enum Phase {
    Open,
    /// One side has ended, which decided the outcome; the other has until then to end too.
    HalfOpen(Outcome, Instant),
    /// We end it: close frames are on their way to both, between messages until the first time, between
    /// fragments after it; at the second it is cut.
    Closing(Outcome, Instant, Instant),
}

/// What an alarm is about.
#[derive(Clone, Copy)]
enum Alarm {
    Ping,
    Idle,
    Hurry,
    Cut(Outcome),
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn new(client: Side<C>, upstream: Side<U>, membership: Membership, part: Part) -> Self {
        let greeting = part
            .greeting
            .map_or_else(Vec::new, |text| frames::text(&text));
        let now = Instant::now();
        Self {
            to_client: Flow::new(greeting, &upstream.early),
            to_upstream: Flow::new(Vec::new(), &client.early),
            client: client.io,
            upstream: upstream.io,
            membership,
            plan: part.plan,
            phase: Phase::Open,
            alarm: None,
            sent: now,
            heard: now,
            stuck: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            self.look_for_end(cx);
            if let Some(outcome) = self.move_bytes(cx) {
                return Poll::Ready(outcome);
            }
            let Poll::Ready(alarm) = self.poll_alarm(cx) else {
                return Poll::Pending;
            };
            match alarm {
                Alarm::Ping => self.ping(),
                Alarm::Idle => self.end(Outcome::Idle, IDLE_CODE),
                Alarm::Hurry => self.hurry(),
                Alarm::Cut(outcome) => return Poll::Ready(outcome),
            }
        }
    }

    /// Asks the registry, while the tunnel is not ending anyway.
    fn look_for_end(&mut self, cx: &mut Context<'_>) {
        let notice = u64::from(self.plan.expiring.notice);
        while let Phase::Open = self.phase
            && let Poll::Ready(told) = self.membership.poll_told(cx, notice)
        {
            match told {
                Told::Expiring(until) => {
                    let text = self.plan.expiring.text(until, self.membership.now());
                    self.to_client.say(frames::text(&text));
                }
                Told::End(end) => {
                    let code = match end {
                        End::Expired | End::Revoked => self.plan.close_unauthenticated,
                        End::StreamsExceeded => self.plan.close_limited,
                        End::Draining => DRAINING_CODE,
                    };
                    self.end(Outcome::Told(end), code);
                }
            }
        }
    }

    /// Moves what can be moved both ways; the outcome when that was the last.
    fn move_bytes(&mut self, cx: &mut Context<'_>) -> Option<Outcome> {
        let down = self
            .to_client
            .poll(cx, &mut self.upstream, &mut self.client);
        let up = self
            .to_upstream
            .poll(cx, &mut self.client, &mut self.upstream);
        let (wrote, read) = (
            self.to_client.take_activity().wrote,
            self.to_upstream.take_activity().read,
        );
        if wrote || read {
            let now = Instant::now();
            self.sent = if wrote { now } else { self.sent };
            self.heard = if read { now } else { self.heard };
        }
        self.stuck = match self.to_client.is_stuck() {
            true if wrote => Some(self.sent),
            true => self.stuck.or_else(|| Some(Instant::now())),
            false => None,
        };
        match (down, up) {
            (Poll::Pending, Poll::Pending) => None,
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Some(self.outcome(Outcome::UpstreamDisconnected))
            }
            (Poll::Ready(Err(Broken::Reader)), _) | (_, Poll::Ready(Err(Broken::Writer))) => {
                Some(self.outcome(Outcome::UpstreamDisconnected))
            }
            (Poll::Ready(Err(Broken::Writer)), _) | (_, Poll::Ready(Err(Broken::Reader))) => {
                Some(self.outcome(Outcome::ClientLeft))
            }
            (Poll::Ready(Ok(())), Poll::Pending) => self.linger(Outcome::UpstreamDisconnected),
            (Poll::Pending, Poll::Ready(Ok(()))) => self.linger(Outcome::ClientLeft),
        }
    }

    /// One side has ended and the other was told: it has a short time to end too. A peer that vanishes
    /// looks just like one that has closed only its own direction.
    fn linger(&mut self, outcome: Outcome) -> Option<Outcome> {
        if let Phase::Open = self.phase {
            let outcome = self.outcome(outcome);
            self.phase = Phase::HalfOpen(outcome, Instant::now() + LINGER);
        }
        None
    }

    /// The outcome, where it would be `broken` if nothing better was known.
    fn outcome(&self, broken: Outcome) -> Outcome {
        let closed = [&self.to_client, &self.to_upstream].map(Flow::close);
        match self.phase {
            Phase::HalfOpen(outcome, _) | Phase::Closing(outcome, ..) => outcome,
            Phase::Open if closed.contains(&Close::Passed) => Outcome::Finished,
            Phase::Open => broken,
        }
    }

    /// Says goodbye to both sides.
    fn end(&mut self, outcome: Outcome, code: u16) {
        let word = outcome.word();
        let (client, upstream) = (Sender::Server, Sender::Client);
        self.to_client.end_with(frames::close(code, word, client));
        self.to_upstream
            .end_with(frames::close(code, word, upstream));
        let now = Instant::now();
        self.phase = Phase::Closing(outcome, now + GRACE, now + CLOSING);
    }

    /// Asks the client for a sign of life.
    fn ping(&mut self) {
        self.sent = Instant::now();
        if self.to_client.put(frames::ping()) {
            self.to_upstream.expect_pong();
        }
    }

    /// No longer waits for the end of long messages.
    fn hurry(&mut self) {
        self.to_client.hurry();
        self.to_upstream.hurry();
        if let Phase::Closing(outcome, _, cut) = self.phase {
            self.phase = Phase::Closing(outcome, cut, cut);
        }
    }

    /// Waits for what would happen next if everybody stayed silent.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        loop {
            let Some((due, alarm)) = self.next_alarm() else {
                return Poll::Pending;
            };
            let sleep = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // While bytes pass, the alarm stands at an old time: it is set right when it rings, not each
            // time. Only one that comes sooner has to be set now.
            if sleep.deadline() > due {
                sleep.as_mut().reset(due);
            }
            std::task::ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                // What it is about moves `due` on, or ends the tunnel.
                self.alarm = None;
                return Poll::Ready(alarm);
            }
            sleep.as_mut().reset(due);
        }
    }

    fn next_alarm(&self) -> Option<(Instant, Alarm)> {
        match self.phase {
            Phase::Closing(outcome, hurry, cut) if hurry == cut => Some((cut, Alarm::Cut(outcome))),
            Phase::Closing(_, hurry, _) => Some((hurry, Alarm::Hurry)),
            Phase::HalfOpen(outcome, cut) => Some((cut, Alarm::Cut(outcome))),
            Phase::Open => {
                let ping = self.plan.ping_interval;
                let ping = ping.map(|after| (self.sent + after, Alarm::Ping));
                let idle = self.plan.idle_timeout;
                let idle = idle.map(|after| (self.heard + after, Alarm::Idle));
                let stuck = self.stuck.map(|since| since + self.plan.send_timeout);
                let stuck = stuck.map(|due| (due, Alarm::Cut(Outcome::ClientLeft)));
                let alarms = ping.into_iter().chain(idle).chain(stuck);
                alarms.min_by_key(|(due, _)| *due)
            }
        }
    }

    /// Shuts both sides, so that what was written last arrives, and waits for that only shortly.
    async fn shut(&mut self) {
        let both = async { tokio::join!(self.client.shutdown(), self.upstream.shutdown()) };
        // A side that is gone already cannot be shut; nothing follows either way.
        let _ = tokio::time::timeout(SHUTTING, both).await;
    }
}

impl Plan {
    /// What `[route.websocket]` says, and how the end is warned of.
    pub fn new(websocket: &config::Websocket, send_timeout: Duration, expiring: Expiring) -> Self {
        Self {
            send_timeout,
            ping_interval: websocket.ping_interval,
            idle_timeout: websocket.idle_timeout,
            close_unauthenticated: websocket.close_unauthenticated,
            close_limited: websocket.close_limited,
            expiring,
        }
    }
}

/// "Service restart" (IANA's registry of close codes): clients come back.
const DRAINING_CODE: u16 = 1012;
/// "Going away".
const IDLE_CODE: u16 = 1001;
/// How long a message under way may take to its end before our close frame.
const GRACE: Duration = Duration::from_millis(500);
/// How long the sides have to answer our close frame.
const CLOSING: Duration = Duration::from_secs(3);
/// How long one side may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(5);
const SHUTTING: Duration = Duration::from_secs(1);
