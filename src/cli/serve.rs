//! `kubeml serve`: a node until somebody ends it.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{net::TcpListener, time::sleep};

use super::signals::Signals;
use crate::{
    config::{Config, Sources},
    http::{self, Api, Phase},
    node::Node,
};

/// What a shutdown may take beyond the drain's time, for whatever does not keep to its own limit.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug, Default, Args)]
pub struct Serve {
    /// Listen here instead of [http] listen; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub fn overrides(&self, sources: Sources) -> Sources {
        match self.listen {
            Some(listen) => sources.set("http.listen", listen, "--listen"),
            None => sources,
        }
    }
}

/// Returns when the node has ended: at a signal with success, by itself or too late without.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut node = Node::start(&config).await?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another address with --listen or [http] listen"))?;
    let bound = listener.local_addr()?;
    node.announce(bound)?;
    let phase = Phase::serving();
    let api = Api::new(&node.tree, config.http.clone(), phase.clone());
    let server = tokio::spawn(http::serve(api, listener));
    tracing::info!(address = %format_args!("http://{bound}"), data_dir = %config.node.data_dir.display(), "serving");

    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "shutting down: a second signal ends at once"),
        why = node.tree.failed() => anyhow::bail!("{why}; start again: nothing is lost"),
    }
    let drained = async {
        phase.drain();
        node.drain().await;
        phase.close();
        // An error means that the server has ended by itself.
        let _ = server.await;
        node.stop().await;
    };
    within(config.node.drain_timeout + GRACE, drained, signals.next()).await
}

/// Waits for the end of a shutdown: no longer than `limit`, and not for a second signal.
async fn within(
    limit: Duration,
    shutdown: impl Future<Output = ()>,
    signal: impl Future<Output = u8>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        () = shutdown => Ok(ExitCode::SUCCESS),
        signal = signal => Ok(ExitCode::from(128 + signal)),
        () = sleep(limit) => anyhow::bail!(
            "shutting down took longer than {limit:?}: tasks that were not given back go on from their last checkpoints, \
             here or elsewhere; a longer [node] drain_timeout gives them more time"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(28);

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_that_hangs_is_given_up_and_told() {
        let error = within(LIMIT, pending(), pending()).await.expect_err("it took too long");
        assert!(error.to_string().starts_with("shutting down took longer than 28s: "), "{error}");
        let code = within(LIMIT, sleep(LIMIT / 2), pending()).await.expect("it ends in time");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        let code = within(LIMIT, pending(), ready(15)).await.expect("it is told to");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(143)));
    }
}
