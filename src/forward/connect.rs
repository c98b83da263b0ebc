//! Opens sockets to an endpoint: TCP, TLS or unix, within one time limit.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::{Endpoint, EndpointAddress, Protocol, UpstreamTls};
use crate::wire::Wire;
use crate::wire::descriptors::{self, Party};

/// Why no connection came to be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name did not resolve, or nobody answered, or TLS failed.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// It took longer than `connect_timeout`.
    #[error("the connection took longer than {0:?}")]
    TimedOut(Duration),
}

/// Why an upstream's TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file holds no certificate, or one that cannot be read.
    #[error("the CA file cannot be used: {0}")]
    Ca(String),
    /// The host of the endpoint, or `server_name`, cannot stand in a certificate.
    #[error("`{0}` is not a name that a certificate can hold")]
    ServerName(String),
}

/// How to reach one endpoint.
pub struct Connector {
    place: Place,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

enum Place {
    Address(SocketAddr),
    /// Resolved at each connect, so that a moved service is found again.
    Name(Box<str>, u16),
    Unix(std::path::PathBuf),
}

impl Connector {
    /// A connector for `endpoint`.
    ///
    /// # Errors
    /// When its TLS settings cannot be used.
    pub fn build(
        endpoint: &Endpoint,
        tls: &UpstreamTls,
        timeout: Duration,
    ) -> Result<Self, TlsError> {
        let place = match &endpoint.address {
            EndpointAddress::Unix(path) => Place::Unix(path.clone()),
            EndpointAddress::Tcp(host, port) => match host.parse() {
                Ok(ip) => Place::Address(SocketAddr::new(ip, *port)),
                Err(_) => Place::Name(host.clone(), *port),
            },
        };
        let tls = match (endpoint.tls, &endpoint.address) {
            (true, EndpointAddress::Tcp(host, _)) => {
                let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
                let server =
                    ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name))?;
                Some((TlsConnector::from(client_config(tls)?), server))
            }
            _ => None,
        };
        Ok(Self {
            place,
            tls,
            timeout,
        })
    }

    /// A new connection that will speak `protocol`, TLS included, with `TCP_NODELAY`.
    ///
    /// # Errors
    /// When nobody answers within the time.
    pub async fn connect(&self, protocol: Protocol) -> Result<Wire, ConnectError> {
        match tokio::time::timeout(self.timeout, self.open(protocol)).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(ConnectError::TimedOut(self.timeout)),
        }
    }

    async fn open(&self, protocol: Protocol) -> io::Result<Wire> {
        let socket = match &self.place {
            Place::Unix(path) => {
                let socket = UnixStream::connect(path).await?;
                check_spares(&socket)?;
                return Ok(Wire::Unix(socket));
            }
            Place::Address(address) => TcpStream::connect(address).await?,
            Place::Name(host, port) => TcpStream::connect((&**host, *port)).await?,
        };
        check_spares(&socket)?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Wire::Tcp(socket)),
            Some((connector, name)) => {
                // An upgrade needs HTTP/1.1 of an upstream that otherwise speaks HTTP/2.
                let connector = connector.with_alpn(alpn(protocol));
                let stream = connector.connect(name.clone(), socket).await?;
                Ok(Wire::Tls(Box::new(stream.into())))
            }
        }
    }
}

/// The last descriptors are not for upstreams.
fn check_spares(socket: &impl AsRawFd) -> io::Result<()> {
    match descriptors::spares(socket, Party::Upstream) {
        true => Ok(()),
        false => Err(io::Error::other("too many files are open")),
    }
}

fn alpn(protocol: Protocol) -> Vec<Vec<u8>> {
    vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }]
}

fn client_config(tls: &UpstreamTls) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    match &tls.ca {
        None => {
            // A machine without roots trusts nobody: connections fail, which is the safe side.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| TlsError::Ca(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| TlsError::Ca(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(TlsError::Ca("no certificate in it".into()));
            }
        }
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|error| TlsError::Ca(error.to_string()))?
    .with_root_certificates(roots)
    .with_no_client_auth();
    Ok(Arc::new(config))
}
