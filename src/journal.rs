//! What is remembered of one request until its last byte, then told once: the metrics, the access line, the
//! audit line of a refusal. Observes only: nothing here enters a decision.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError, UploadState};
use crate::identity::{Caller, Identity};
use crate::observe::Kind;
use crate::observe::access::{Auth, Line, Sink};
use crate::observe::metrics::{Cells, RouteId, Total};
use crate::observe::request_id::RequestId;
use crate::refusal::Refusal;
use crate::request::head::{Head, Logged};
use crate::wire::vitals::Busy;

/// Where a worker's journals are told to.
pub struct Book {
    /// The worker's own metric cells.
    pub cells: Arc<Cells>,
    /// Access and audit lines.
    pub sink: Sink,
}

/// One request, from its head to its last byte. Tells itself when dropped, so that nothing ends untold.
pub struct Journal {
    /// The request's id.
    pub id: RequestId,
    /// How it is carried.
    pub kind: Kind,
    /// Why a stream ended; shared with the stream, which knows.
    ending: Rc<Cell<Option<&'static str>>>,
    /// Bytes that a tunnel's client sent.
    bytes_in: u64,
    /// Bytes of the answer.
    bytes_out: u64,
    /// The request's body, where it has one.
    pub upload: Option<Rc<UploadState>>,
    /// Which job it is about; shared with who finds out. `None`: nobody looks.
    pub job: Option<Rc<RefCell<Option<Box<str>>>>>,
    book: Rc<Book>,
    began: Instant,
    version: Version,
    method: Method,
    head: Seen,
    client: Option<IpAddr>,
    route: Option<(RouteId, &'static str)>,
    auth: Auth,
    identity: Option<Arc<Identity>>,
    refusal: Option<Refusal>,
    status: StatusCode,
    upstream: Option<(Duration, &'static str)>,
    /// Keeps its connection from counting as idle; `None`: it has left that.
    busy: Option<Busy>,
}

/// Held while an answer is awaited: dropped before it is over, the client has left.
pub struct Waiting<'j> {
    head: &'j Head,
    journal: &'j mut Journal,
    over: bool,
}

/// What the line tells of the head.
enum Seen {
    Nothing,
    /// As it was read.
    Whole(Logged),
    /// Copied out for a stream: a head is a view of all the bytes that it was read from, and would keep them
    /// alive for as long as the stream lives.
    Copied {
        host: Box<str>,
        path: Box<str>,
    },
}

impl Seen {
    fn copy(head: &Logged) -> Self {
        Self::Copied {
            host: head.host().into(),
            path: head.path().into(),
        }
    }

    fn host(&self) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::Whole(head) => Some(head.host()),
            Self::Copied { host, .. } => Some(host),
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Whole(head) => head.path(),
            Self::Copied { path, .. } => path,
        }
    }
}

impl Journal {
    /// A request has arrived.
    pub fn begin(book: Rc<Book>, busy: Busy, method: &Method, version: Version) -> Self {
        Self {
            id: RequestId::mint(),
            kind: Kind::Http,
            ending: Rc::default(),
            bytes_in: 0,
            bytes_out: 0,
            upload: None,
            job: None,
            book,
            began: Instant::now(),
            version,
            method: method.clone(),
            head: Seen::Nothing,
            client: None,
            route: None,
            auth: Auth::None,
            identity: None,
            refusal: None,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            upstream: None,
            busy: Some(busy),
        }
    }

    /// Its route is known.
    pub fn matched(&mut self, id: RouteId, name: &'static str) {
        self.route = Some((id, name));
    }

    /// Who calls is known, before it is decided what they may do.
    pub fn identified(&mut self, caller: &Caller) {
        (self.auth, self.identity) = match caller {
            Caller::Guest => (Auth::Guest, None),
            Caller::Known(identity) => (Auth::Authenticated, Some(Arc::clone(identity))),
            Caller::Unverified(refusal, _) if refusal.leaves_unjudged() => (Auth::Error, None),
            Caller::Unverified(..) => (Auth::InvalidToken, None),
        };
    }

    /// The upstream's first byte is here.
    pub fn answered(&mut self, endpoint: &'static str) {
        self.upstream = Some((self.began.elapsed(), endpoint));
    }

    /// When the request came.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The version of HTTP that the client spoke.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where a stream writes why it ended.
    pub fn ending(&self) -> Rc<Cell<Option<&'static str>>> {
        Rc::clone(&self.ending)
    }

    /// Its connection is a tunnel now, and no more one of HTTP.
    pub fn leave_connection(&mut self) {
        self.busy = None;
    }

    /// Its tunnel has come to its end: why, and the bytes that passed from and to the client.
    pub fn tunnelled(&mut self, ending: &'static str, bytes_in: u64, bytes_out: u64) {
        self.ending.set(Some(ending));
        self.bytes_in = bytes_in;
        self.bytes_out = bytes_out;
    }

    /// The worker's metric cells.
    pub fn cells(&self) -> &Cells {
        &self.book.cells
    }

    /// The request is refused; its answer follows.
    pub fn refused(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    /// The answer is awaited from here on.
    pub fn waiting<'j>(&'j mut self, head: &'j Head) -> Waiting<'j> {
        Waiting {
            head,
            journal: self,
            over: false,
        }
    }

    /// The head of the answer is known; the journal is told when its body ends.
    pub fn tell_with(mut self, head: Option<Head>, response: Response<Body>) -> Response<Body> {
        self.settle(head, response.status());
        if let Body::Empty | Body::Full(_) = response.body() {
            self.bytes_out = response.body().size_hint().exact().unwrap_or(0);
            return response;
        }
        response.map(|inner| {
            Body::stream(Told {
                inner,
                bytes_out: 0,
                over: false,
                journal: self,
            })
        })
    }

    /// The head of the answer is known; whoever holds the journal says when it ends.
    pub fn settle(&mut self, head: Option<Head>, status: StatusCode) {
        self.client = head.as_ref().and_then(Head::client_address);
        self.head = match (head.map(Logged::from), self.kind) {
            (None, _) => Seen::Nothing,
            (Some(head), Kind::Http) => Seen::Whole(head),
            (Some(head), _) => Seen::copy(&head),
        };
        self.status = status;
        // A stream is answered when it opens: how long it lives is no matter of speed.
        if self.kind != Kind::Http {
            let (cells, route) = (&self.book.cells, self.route_id());
            cells.stream_open(route, self.kind);
            cells.request(route, &self.method, self.status, self.began.elapsed());
        }
    }

    fn route_id(&self) -> RouteId {
        let route = self.route.as_ref();
        route.map_or(RouteId::UNMATCHED, |(route, _)| *route)
    }

    /// Bytes from the client, behind its head.
    fn received(&self) -> u64 {
        self.bytes_in + self.upload.as_ref().map_or(0, |upload| upload.bytes())
    }

    fn count(&self, duration: Duration) {
        let cells = &self.book.cells;
        let route = self.route_id();
        cells.add(Total::BytesOut, self.bytes_out);
        cells.add(Total::BytesIn, self.received());
        if let Some((first_byte, _)) = &self.upstream {
            cells.upstream(route, *first_byte);
        }
        if let Some(refusal) = self.refusal {
            cells.refusal(refusal.word());
        }
        match self.kind {
            Kind::Http => cells.request(route, &self.method, self.status, duration),
            kind => cells.stream_close(route, kind, self.ending.get().unwrap_or("finished")),
        }
    }

    fn line<'l>(&'l self, duration: Duration, job: Option<&'l str>) -> Line<'l> {
        let identity = self.identity.as_deref();
        Line {
            request_id: self.id.as_str(),
            kind: self.kind,
            client: self.client,
            protocol: self.version,
            method: self.method.as_str(),
            host: self.head.host(),
            path: self.head.path(),
            route: self.route.as_ref().map(|(_, name)| *name),
            status: self.status.as_u16(),
            auth: self.auth,
            user_id: identity.map(|identity| &*identity.user_id),
            email: identity.and_then(|identity| identity.email.as_deref()),
            session_id: identity.and_then(|identity| identity.session_id.as_deref()),
            issuer: identity.map(|identity| &*identity.issuer),
            job_id: job,
            reason: self.refusal.map(Refusal::word),
            bytes_in: self.received(),
            bytes_out: self.bytes_out,
            duration,
            upstream: self.upstream.as_ref().map(|(first_byte, _)| *first_byte),
            endpoint: self.upstream.as_ref().map(|(_, endpoint)| *endpoint),
            end: self.ending.get(),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let duration = self.began.elapsed();
        self.count(duration);
        let sink = &self.book.sink;
        if sink.enabled() || (self.refusal.is_some() && sink.audits()) {
            let job = self.job.as_ref().map(|job| job.borrow());
            let line = self.line(duration, job.as_ref().and_then(|job| job.as_deref()));
            sink.write(&line);
            if self.refusal.is_some() {
                sink.audit(&line);
            }
        }
    }
}

impl Waiting<'_> {
    /// What is learnt meanwhile.
    pub fn journal(&mut self) -> &mut Journal {
        self.journal
    }

    /// The answer, or the refusal, is there.
    pub fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.journal.ending.set(Some(CLIENT_LEFT));
            self.journal.client = self.head.client_address();
            self.journal.head = Seen::Whole(self.head.logged());
            if let Ok(status) = StatusCode::from_u16(CLIENT_CLOSED_REQUEST) {
                self.journal.status = status;
            }
        }
    }
}

/// The word for a client that did not wait for the end.
const CLIENT_LEFT: &str = "client_left";
/// The status of an answer that nobody waited for; nginx's, never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A body that keeps the journal until its last byte. In this order: what each event of a stream touches is one line of
/// memory.
#[repr(C)]
struct Told {
    inner: Body,
    bytes_out: u64,
    over: bool,
    journal: Journal,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.journal.bytes_out = self.bytes_out;
        let ending = &self.journal.ending;
        if !self.over && !self.inner.is_end_stream() && ending.get().is_none() {
            ending.set(Some(CLIENT_LEFT));
        }
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(Some(Err(error))) => this.journal.ending.set(Some(error.word())),
            Poll::Ready(None) => this.over = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::wire::vitals::Ward;

    #[test]
    fn a_tunnel_lets_go_of_its_connection() {
        let bed = Ward::open().admit();
        let book = Rc::new(Book {
            cells: Metrics::new(1).worker(0),
            sink: Sink::silent(),
        });
        let others = Rc::strong_count(&bed.vitals);
        let busy = bed.vitals.begin();
        let mut journal = Journal::begin(book, busy, &Method::GET, Version::HTTP_11);
        assert_eq!(Rc::strong_count(&bed.vitals), others + 1);
        journal.leave_connection();
        assert_eq!(Rc::strong_count(&bed.vitals), others);
    }
}
