//! A request on its way to an upstream, between tries: what is left of it to be sent, in each protocol, and whether it
//! may be sent again.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body as HttpBody;

use crate::body::Body;
use crate::config::Endpoint;
use crate::forward::headers::Tail;
use crate::forward::http1::head::expects_body;
use crate::forward::http1::sending::Sending;
use crate::forward::http2::Fault;
use crate::forward::http2::connection::Place;
use crate::forward::http2::exchange::Exchange;

/// A request between tries.
pub struct Outgoing<'h> {
    /// Its head, and its body until that is sent.
    request: Request<Body>,
    /// It has a head and nothing else.
    bodiless: bool,
    /// Its bytes over HTTP/1.1.
    sending: Option<Box<Sending>>,
    /// What is said behind the fields of its head.
    tail: Option<&'h Tail<'h>>,
    /// Whom interim answers to it are told.
    hear: Hear<'h>,
    /// It was given away over HTTP/2 and did not come back.
    lost: bool,
}

/// Hears of interim answers.
type Hear<'h> = &'h mut dyn FnMut(StatusCode, HeaderMap);

impl<'h> Outgoing<'h> {
    /// A request of which nothing was sent.
    pub fn new(request: Request<Body>, tail: Option<&'h Tail<'h>>, hear: Hear<'h>) -> Self {
        Self {
            bodiless: request.body().size_hint().exact() == Some(0),
            request,
            sending: None,
            tail,
            hear,
            lost: false,
        }
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// Whether nothing of it was sent, or nobody has looked at what was.
    pub fn is_untouched(&self) -> bool {
        !self.lost
            && self
                .sending
                .as_ref()
                .is_none_or(|sending| sending.is_untouched())
    }

    /// Whether it may be sent again although it may have been read.
    pub fn is_repeatable(&self) -> bool {
        self.bodiless && self.method().is_idempotent()
    }

    /// It, over HTTP/1.1, on a connection that nothing was sent on.
    pub fn as_http1(&mut self, own_host: Option<&HeaderValue>) -> (&mut Sending, Hear<'_>) {
        if let Some(host) = own_host {
            self.request.headers_mut().insert(HOST, host.clone());
        }
        let request = &mut self.request;
        let sending = self
            .sending
            .get_or_insert_with(|| Box::new(Sending::new(request)));
        let tail = self.tail;
        sending.aim(request, |out| {
            tail.into_iter().for_each(|tail| tail.write(out))
        });
        (sending, self.hear)
    }

    /// What of it is still to be sent over HTTP/1.1, once its answer has begun.
    pub fn rest(&mut self) -> Option<Box<Sending>> {
        self.sending.take().filter(|sending| !sending.is_done())
    }

    /// Its head over HTTP/2, which has the host in `:authority` (RFC 9113 §8.3.1) and no fields of a connection.
    pub fn head_http2(&self, endpoint: &Endpoint, own_host: Option<&HeaderValue>) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = self.method().clone();
        *head.version_mut() = Version::HTTP_2;
        *head.headers_mut() = self.request.headers().clone();
        let headers = head.headers_mut();
        if let Some(tail) = self.tail {
            tail.put(headers);
        }
        let stated = headers.remove(HOST);
        for name in OF_A_CONNECTION {
            headers.remove(name);
        }
        // That is ours alone to say, as over HTTP/1.1.
        headers.remove(CONTENT_LENGTH);
        if let Some(length) = self.request.body().size_hint().exact()
            && (length > 0 || expects_body(self.method()))
        {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut parts = self.request.uri().clone().into_parts();
        parts.scheme = Some(match endpoint.tls {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        });
        let host = own_host.or(stated.as_ref());
        let named = host.and_then(|host| host.to_str().ok()?.parse().ok());
        parts.authority = named.or_else(|| endpoint.authority.to_str().ok()?.parse().ok());
        if let Ok(uri) = Uri::from_parts(parts) {
            *head.uri_mut() = uri;
        }
        head
    }

    /// Sends it over HTTP/2, under this head.
    ///
    /// # Errors
    /// When nothing of it could be sent.
    pub fn begin_http2(
        &mut self,
        place: Place,
        head: Request<()>,
    ) -> Result<(Exchange, Hear<'_>), Fault> {
        let body = std::mem::take(self.request.body_mut());
        match Exchange::begin(place, head, body) {
            Ok(exchange) => {
                self.lost = true;
                Ok((exchange, self.hear))
            }
            Err((error, body)) => {
                *self.request.body_mut() = body;
                // What h2 does not take from us is not the connection's fault: it would not take it again.
                self.lost = !(error.is_io() || error.is_go_away());
                Err(error.into())
            }
        }
    }

    /// Takes back a request that the upstream has not looked at, if all of it is still here.
    pub fn recover(&mut self, exchange: Exchange) {
        let body = exchange.untouched();
        self.lost = !self.bodiless && body.is_none();
        *self.request.body_mut() = body.unwrap_or_default();
    }
}

/// Fields that HTTP/2 has no place for (RFC 9113 §8.2.2), for the case that a route's rules set one; `TE` says nothing but
/// `trailers` by then.
const OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
