//! `portcullis demo`: the sample upstream, the gateway in front of it, and something to try on both.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;

use anyhow::Context;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::demo::gateway::Key;
use crate::demo::upstream::{self, Desk};
use crate::observe::access::Sink;
use crate::observe::log;
use crate::server::{Running, Source};

/// A sample service with the gateway in front, to try.
#[derive(clap::Args)]
pub struct Demo {
    /// Where the gateway listens. A free port is taken where this one is not free.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where users and keys are kept. Not given: in a folder that goes with the demo.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The gateway's log on standard error: error, warn, info or debug.
    #[arg(long, default_value = "warn")]
    log: tracing::level_filters::LevelFilter,
    /// Print the gateway's config, its secret included, and do nothing else.
    #[arg(long)]
    print_config: bool,
}

/// Runs the demo until SIGINT or SIGTERM.
///
/// # Errors
/// When a listener or a thread cannot be had.
pub fn run(args: Demo) -> anyhow::Result<ExitCode> {
    let key = Key::random().context("the machine gives no randomness")?;
    if args.print_config {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 8000));
        let folder = args.data.unwrap_or_default();
        super::say(key.config((args.listen, upstream), &folder))?;
        return Ok(ExitCode::SUCCESS);
    }
    let _flush = log::start(log::Format::Human, args.log)?;
    let folder = Folder::of(args.data.as_deref()).context("no folder for users and keys")?;
    let studio = Studio::start(&key)?;
    let config = key.config((free(args.listen), studio.address), &folder.path);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("the runtime could not be made")?;
    let served = runtime.block_on(serve(&config, &key, &args));
    studio.stop();
    served
}

async fn serve(config: &str, key: &Key, args: &Demo) -> anyhow::Result<ExitCode> {
    // Asked for before anything runs: a Ctrl-C must never find nobody listening.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sink, _lines) = Sink::start(std::io::stdout())?;
    let source = Source::Text(config.into(), PathBuf::from("demo.toml"));
    let running = Running::start(source, sink).await?;
    let address = running
        .public
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    if !address.ends_with(&format!(":{}", args.listen.port())) && args.listen.port() != 0 {
        super::say(format!(
            "Port {} is taken; here is a free one.\n",
            args.listen.port()
        ))?;
    }
    super::say(instructions(&address, &key.tokens(&Clock::System)?))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    super::say("\nStopping.\n")?;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Where users and keys are kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// `given`, or a new one that nobody else may look into and that goes when this is dropped.
    fn of(given: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        if let Some(path) = given {
            builder.recursive(true).create(path)?;
            let path = path.canonicalize()?;
            return Ok(Self { path, kept: true });
        }
        let name = format!("portcullis-demo-{:016x}", getrandom::u64()?);
        let path = std::env::temp_dir().canonicalize()?.join(name);
        builder.create(&path)?;
        Ok(Self { path, kept: false })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What is left behind is in the folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The sample upstream on a thread of its own, as if it were another process.
struct Studio {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Studio {
    fn start(key: &Key) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the upstream")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (shutdown, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let key = key.clone();
        let desk: Desk = Box::new(move || key.tokens(&Clock::System).unwrap_or(Value::Null));
        let thread = std::thread::Builder::new()
            .name("demo-upstream".to_owned())
            .spawn(move || {
                runtime.block_on(upstream::serve(listener, desk, async {
                    let _ = stopped.await;
                }));
            })?;
        Ok(Self {
            address,
            shutdown,
            thread,
        })
    }

    fn stop(self) {
        let _ = self.shutdown.send(());
        let _ = self.thread.join();
    }
}

/// `wanted`, or any free port of its address where somebody listens there.
fn free(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn instructions(address: &str, tokens: &Value) -> String {
    let token = |name: &str| tokens[name].as_str().unwrap_or_default();
    INSTRUCTIONS
        .replace("{address}", address)
        .replace("{socket}", &address.replacen("http", "ws", 1))
        .replace("{token}", token("token"))
        .replace("{expired}", token("expired_token"))
}

const INSTRUCTIONS: &str = r#"
Portcullis stands in front of a small image service. Open the page:

    {address}/

or try it from a shell:

    TOKEN={token}
    EXPIRED={expired}

    # A picture over SSE; leave with Ctrl-C in the middle, then look at the counts.
    curl -N {address}/api/v1/faceflip/generate/stream -H "authorization: Bearer $TOKEN" \
         -H 'content-type: application/json' -d '{"prompt":"a quiet lake","steps":10}'
    curl {address}/api/v1/stats

    # Users of the gateway's own: register, log in through any of its four APIs, use what you get, log out.
    curl {address}/api/auth/register -H 'content-type: application/json' \
         -d '{"username":"ada","email":"ada@example.com","password":"correct horse"}'
    curl {address}/auth/login -d username=ada -d 'password=correct horse'
    curl {address}/api/v1/base/access_token -H 'content-type: application/json' \
         -d '{"username":"ada","password":"correct horse"}'

    # What the service is told about you, whatever you say yourself.
    curl "{address}/api/v1/whoami?color=blue&token=$TOKEN" -H 'x-user-id: root'

    # Refused: no token, an expired one, two that differ.
    curl -i {address}/api/v1/whoami
    curl -i {address}/api/v1/whoami -H "authorization: Bearer $EXPIRED"
    curl -i "{address}/api/v1/whoami?token=$EXPIRED" -H "authorization: Bearer $TOKEN"

    # WebSockets: with a token, as a guest, and refused with a reason (any client will do).
    #   {socket}/ws/realtime/my-tab?token=$TOKEN
    #   {socket}/ws/realtime/my-tab
    #   {socket}/ws/members/my-tab

Ctrl-C ends it.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        assert_eq!(free(wanted).port(), 0);
    }

    #[test]
    fn a_folder_that_nobody_named_goes_with_the_demo() {
        let folder = Folder::of(None).unwrap();
        let path = folder.path.clone();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn the_instructions_have_no_gap_left() {
        let tokens = serde_json::json!({ "token": "good", "expired_token": "old" });
        let text = instructions("http://127.0.0.1:8080", &tokens);
        assert!(text.contains("TOKEN=good") && text.contains("ws://127.0.0.1:8080/ws/members"));
        for gap in ["{address}", "{socket}", "{token}", "{expired}"] {
            assert!(!text.contains(gap), "{gap}");
        }
    }
}
