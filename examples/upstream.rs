//! The demo's upstream alone, without a gateway in front: `cargo run --example upstream -- 127.0.0.1:8000`.
//! For tests, and for trying a config of one's own on something that answers.

use portcullis::demo::upstream;
use tokio::net::TcpListener;

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8000");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind(address).await?;
            tracing_subscriber::fmt().init();
            tracing::info!(
                "the sample upstream is at http://{}",
                listener.local_addr()?
            );
            let no_tokens = Box::new(|| serde_json::json!({}));
            upstream::serve(listener, no_tokens, async {
                let _ = tokio::signal::ctrl_c().await;
            })
            .await;
            Ok(())
        })
}
