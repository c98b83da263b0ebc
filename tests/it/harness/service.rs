//! A service that speaks HTTP/2, stream by stream as the test says.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::mpsc;

use super::peer::{Peer, RawUpstream};
use super::{Setup, soon};

/// A service, of which the test accepts each connection.
pub struct Service(RawUpstream);

/// A connection to it: what is asked for over it, in order.
pub struct Serving(mpsc::UnboundedReceiver<Asked>);

/// A request, still to be answered.
pub struct Asked {
    pub request: Request<RecvStream>,
    pub reply: SendResponse<Bytes>,
}

impl Service {
    pub async fn start() -> Self {
        Self(RawUpstream::start().await)
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    /// A gateway in front of it, where a route has these lines.
    pub fn setup(&self, lines: &str) -> Setup {
        self.setup_with("", lines)
    }

    /// The same, where the upstream has lines too.
    pub fn setup_with(&self, upstream: &str, lines: &str) -> Setup {
        let upstream = format!("protocol = \"http2\"\n{upstream}");
        Setup::new()
            .upstream(&self.url(), &upstream)
            .route("/{*rest}", lines)
    }

    pub async fn accept(&self) -> Serving {
        self.accept_with(&h2::server::Builder::new()).await
    }

    pub async fn accept_with(&self, builder: &h2::server::Builder) -> Serving {
        let peer = self.0.accept().await;
        let mut connection = soon(builder.handshake(peer.io)).await.unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok((request, reply))) = connection.accept().await {
                let _ = tell.send(Asked { request, reply });
            }
        });
        Serving(told)
    }

    /// A connection of which the test sends each frame.
    pub async fn accept_raw(&self) -> Peer {
        self.0.accept().await
    }
}

impl Serving {
    /// The next request.
    pub async fn asked(&mut self) -> Asked {
        soon(self.0.recv()).await.expect("the connection is over")
    }

    /// Waits for its end.
    pub async fn closed(&mut self) {
        assert!(soon(self.0.recv()).await.is_none());
    }
}

impl Asked {
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Says something before the answer.
    pub fn hint(&mut self, status: u16, fields: &[(&'static str, &'static str)]) {
        self.reply.send_informational(head(status, fields)).unwrap();
    }

    /// Answers with this body, whole.
    pub fn answer(mut self, body: &'static str) {
        self.begin(200, &[]).send_data(body.into(), true).unwrap();
    }

    /// Answers; a body follows.
    pub fn begin(
        &mut self,
        status: u16,
        fields: &[(&'static str, &'static str)],
    ) -> SendStream<Bytes> {
        self.reply
            .send_response(head(status, fields), false)
            .unwrap()
    }

    /// Answers with a head alone.
    pub fn bare(&mut self, status: u16, fields: &[(&'static str, &'static str)]) {
        self.reply
            .send_response(head(status, fields), true)
            .unwrap();
    }

    /// The request's body and its trailers.
    pub async fn body(&mut self) -> Result<(String, Option<HeaderMap>), h2::Error> {
        let body = self.request.body_mut();
        let mut all = Vec::new();
        while let Some(data) = soon(body.data()).await {
            let data = data?;
            all.extend(&data);
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        let trailers = soon(body.trailers()).await?;
        Ok((String::from_utf8(all).unwrap(), trailers))
    }

    /// Waits for the gateway to reset the stream.
    pub async fn left(&mut self) -> Reason {
        soon(std::future::poll_fn(|cx| self.reply.poll_reset(cx)))
            .await
            .unwrap()
    }
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        let value = HeaderValue::from_static(value);
        head.headers_mut().append(*name, value);
    }
    head
}
