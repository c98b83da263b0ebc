//! Makes connections to Redis: to one server, to the master that sentinels name, or to a cluster. The sockets and the
//! TLS of servers are our own, so that the machine's roots are read once and no connection waits on anything unbounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates, TlsMode, Value,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::redis::{is_tls, server};
use crate::config::{self, RedisPlace};
use crate::secret::Secret;

/// Why no connection could ever be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A URL that says nothing. `check` refuses it.
    #[error("`[redis]`: a URL cannot be read")]
    Url,
    /// Certificates, or none, or a setting that the driver refuses.
    #[error("`[redis]`: {0}")]
    Unusable(String),
}

/// How connections are made.
pub(super) struct Dial {
    to: To,
    /// For calls that may take long, where that needs other settings.
    patient: Option<To>,
    tls: Option<Arc<ClientConfig>>,
    ca: Option<Arc<str>>,
    connect_timeout: Duration,
    /// Why the last attempt failed, for the log.
    cause: Mutex<Option<RedisError>>,
}

enum To {
    Server(Box<ConnectionInfo>),
    Sentinel(Box<Master>),
    Cluster(Box<ClusterClient>),
}

/// A master by its name.
struct Master {
    name: String,
    redis: RedisConnectionInfo,
    sentinels: Vec<ConnectionInfo>,
}

/// A connection that carries many calls at once.
#[derive(Clone)]
pub(super) enum Line {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Line {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Server(line) => line.req_packed_command(command).await,
            Self::Cluster(line) => line.req_packed_command(command).await,
        };
        // An error that the server answers is a value to the driver.
        answer.and_then(Value::extract_error)
    }
}

impl Dial {
    pub(super) fn new(config: &config::Redis) -> Result<Self, OpenError> {
        let ca = config.ca.clone();
        let to = match &config.place {
            RedisPlace::Server(url) => To::Server(Box::new(read(url)?)),
            RedisPlace::Sentinel(url, sentinels) => {
                To::Sentinel(Box::new(Master::new(url, sentinels)?))
            }
            RedisPlace::Cluster(nodes) => cluster(nodes, config, config.timeout)?,
        };
        let patient = match &config.place {
            RedisPlace::Cluster(nodes) => Some(cluster(nodes, config, PATIENCE + config.timeout)?),
            RedisPlace::Server(_) | RedisPlace::Sentinel(..) => None,
        };
        let secure = match &config.place {
            RedisPlace::Server(url) | RedisPlace::Sentinel(url, _) => is_tls(url.expose()),
            RedisPlace::Cluster(_) => false,
        };
        let tls = secure.then(|| tls(ca.as_deref())).transpose()?;
        Ok(Self {
            to,
            patient,
            tls,
            ca,
            connect_timeout: config.connect_timeout,
            cause: Mutex::default(),
        })
    }

    /// A new connection, which has answered once.
    pub(super) async fn line(&self) -> RedisResult<Line> {
        self.noted(&self.to).await
    }

    /// The same for calls that may take long.
    pub(super) async fn patient_line(&self) -> RedisResult<Line> {
        self.noted(self.patient.as_ref().unwrap_or(&self.to)).await
    }

    async fn noted(&self, to: &To) -> RedisResult<Line> {
        let line = self.tested(to).await;
        let mut cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        *cause = line.as_ref().err().cloned();
        line
    }

    /// Why the last attempt to connect failed; `None`: it did not.
    pub(super) fn cause(&self) -> Option<RedisError> {
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        cause.clone()
    }

    async fn tested(&self, to: &To) -> RedisResult<Line> {
        let connected = tokio::time::timeout(self.connect_timeout, self.connect(to)).await;
        let mut line = connected.map_err(|_| late())??;
        let ping = redis::cmd("PING");
        let answered = tokio::time::timeout(self.connect_timeout, line.send(&ping)).await;
        answered.map_err(|_| late())??;
        Ok(line)
    }

    async fn connect(&self, to: &To) -> RedisResult<Line> {
        match to {
            To::Server(info) => self.server(info.addr(), info.redis_settings()).await,
            To::Sentinel(master) => {
                let mut sentinels = master.sentinels(self.ca.as_deref())?;
                let client = sentinels.async_get_client().await?;
                let address = client.get_connection_info().addr();
                self.server(address, &master.redis).await
            }
            To::Cluster(client) => Ok(Line::Cluster(client.get_async_connection().await?)),
        }
    }

    async fn server(&self, to: &ConnectionAddr, redis: &RedisConnectionInfo) -> RedisResult<Line> {
        match to {
            ConnectionAddr::Unix(path) => begin(UnixStream::connect(path).await?, redis).await,
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                match &self.tls {
                    None => begin(socket, redis).await,
                    Some(tls) => {
                        let name = ServerName::try_from(host.clone())?;
                        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
                        begin(connector.connect(name, socket).await?, redis).await
                    }
                }
            }
            _ => Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
        }
    }
}

/// Logs in on a socket and lets its driver run beside the calls, until the last of them lets go of it.
async fn begin<S>(socket: S, redis: &RedisConnectionInfo) -> RedisResult<Line>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Calls have time-outs of their own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (line, driver) = MultiplexedConnection::new_with_config(redis, socket, config).await?;
    tokio::spawn(driver);
    Ok(Line::Server(line))
}

impl Master {
    fn new(url: &Secret<String>, sentinels: &[Secret<String>]) -> Result<Self, OpenError> {
        let info = read(url)?;
        let name = match info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => return Err(OpenError::Url),
        };
        let sentinels = sentinels.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            redis: info.redis_settings().clone(),
            sentinels,
        })
    }

    /// Asked anew for each connection: what one thread asks must not run on another's.
    fn sentinels(&self, ca: Option<&str>) -> RedisResult<SentinelClient> {
        let addresses = self.sentinels.iter().map(|info| info.addr().clone());
        let kind = SentinelServerType::Master;
        let mut sentinels = SentinelClientBuilder::new(addresses, &self.name, kind)?;
        if let Some(first) = self.sentinels.first() {
            let settings = first.redis_settings();
            if let Some(user) = settings.username() {
                sentinels = sentinels.set_client_to_sentinel_username(user);
            }
            if let Some(password) = settings.password() {
                sentinels = sentinels.set_client_to_sentinel_password(password);
            }
            if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
                sentinels = sentinels.set_client_to_sentinel_tls_mode(TlsMode::Secure);
                if let Some(ca) = ca {
                    let certificates = certificates(ca);
                    sentinels = sentinels.set_client_to_sentinel_certificates(certificates);
                }
            }
        }
        // The master is asked for its role before it is named, with what it is asked with later.
        if let Some(user) = self.redis.username() {
            sentinels = sentinels.set_client_to_redis_username(user);
        }
        if let Some(password) = self.redis.password() {
            sentinels = sentinels.set_client_to_redis_password(password);
        }
        sentinels.build()
    }
}

fn read(url: &Secret<String>) -> Result<ConnectionInfo, OpenError> {
    server(url.expose()).map_err(|_| OpenError::Url)
}

fn cluster(
    nodes: &[Secret<String>],
    config: &config::Redis,
    timeout: Duration,
) -> Result<To, OpenError> {
    let infos = nodes.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut cluster = ClusterClientBuilder::new(infos)
        .connection_timeout(config.connect_timeout)
        .response_timeout(timeout)
        .overall_response_timeout(Some(timeout))
        .retries(2);
    if let Some(ca) = &config.ca {
        cluster = cluster.certs(certificates(ca));
    }
    let client = cluster.build().map_err(unusable)?;
    Ok(To::Cluster(Box::new(client)))
}

fn certificates(ca: &str) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(ca.as_bytes().to_vec()),
    }
}

/// With the certificates of `ca` or, without, the machine's.
fn tls(ca: Option<&str>) -> Result<Arc<ClientConfig>, OpenError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                let certificate = certificate.map_err(unusable)?;
                roots.add(certificate).map_err(unusable)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(unusable(
            "there are no certificates to trust: give `ca_file`",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let config = versions.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

fn unusable(error: impl std::fmt::Display) -> OpenError {
    OpenError::Unusable(error.to_string())
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// How long an answer may take that is waited for on purpose.
const PATIENCE: Duration = Duration::from_secs(1);
