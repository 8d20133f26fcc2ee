//! Connections: accepted up to a bound, cut when their headers dawdle, closed in order.

use std::{sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Api, gate::Gate};

/// A connection that has not sent a whole head by then is cut, an idle one closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound of a request's head and of what is read ahead.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Connections beside those of streams, which have a bound of their own.
const REQUEST_CONNECTIONS_MAX: usize = 1_024;
/// After closing has begun: how long requests under way may still take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// When no connection can be accepted, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the phase is closing, and a little longer to say goodbye.
pub async fn serve(api: Api, listener: TcpListener) {
    let phase = api.phase.clone();
    let places = Arc::new(Semaphore::new(api.context.settings.subscriptions_max + REQUEST_CONNECTIONS_MAX));
    let gate = Gate::new(Arc::new(api));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = phase.closing() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &places) => if let Some((socket, place)) = accepted {
                connections.spawn(connection(socket, place, gate.clone(), graceful.watcher()));
            },
        }
    }
    drop(listener);
    if timeout(CLOSE_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut");
    }
    // The rest end with `connections`.
}

/// The next connection, once there is a place for it. Cancelling the future loses none.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(socket: TcpStream, place: OwnedSemaphorePermit, gate: Gate, watcher: Watcher) {
    let _place = place;
    // Without it small answers may wait for the peer's acknowledgement; a failure costs no more than that.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let gate = gate.clone();
        async move { Ok::<_, std::convert::Infallible>(gate.pass(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER_BYTES_MAX);
    if let Err(error) = watcher.watch(server.serve_connection(TokioIo::new(socket), service)).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
