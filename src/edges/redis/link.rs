//! A connection that is made when it is needed, given up when it fails, and not asked while the breaker is open.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kubeml_actors::{ports::PortError, restart_policy::chance};
use prometheus::IntGauge;
use redis::{Cmd, RedisResult};
use tokio::time::{Instant, timeout};

use super::{
    breaker::{Breaker, Change, Ticket},
    fault::Fault,
    server::{Connection, Server},
};

/// What the links to one server share: when one finds it dead, the other need not.
pub struct Circuit {
    /// The server's addresses, as they are told.
    name: String,
    breaker: Mutex<Breaker>,
    open: IntGauge,
}

impl Circuit {
    pub fn new(name: String, open: IntGauge) -> Self {
        open.set(0);
        Self { name, breaker: Mutex::default(), open }
    }

    fn admit(&self) -> Result<Ticket, PortError> {
        self.breaker().admit(Instant::now()).map_err(|wait| {
            let wait = humantime::format_duration(Duration::from_millis(wait.as_millis() as u64));
            PortError::Unavailable(format!("{} failed several times and is not asked for {wait}", self.name))
        })
    }

    fn note(&self, ticket: Ticket, fault: Option<&str>) {
        let change = match fault {
            None => self.breaker().succeeded(ticket),
            Some(_) => self.breaker().failed(ticket, Instant::now(), chance()),
        };
        match change {
            Change::None => {}
            Change::Opened { wait } => {
                self.open.set(1);
                tracing::warn!(redis = self.name, error = fault, ?wait, "redis fails and is left alone for a while");
            }
            Change::Closed => {
                self.open.set(0);
                tracing::info!(redis = self.name, "redis answers again");
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Link {
    server: Server,
    circuit: Arc<Circuit>,
    /// What a call may take, connecting included.
    timeout: Duration,
    current: Mutex<Option<Connection>>,
}

impl Link {
    pub fn new(server: Server, circuit: Arc<Circuit>, timeout: Duration) -> Self {
        Self { server, circuit, timeout, current: Mutex::new(None) }
    }

    /// Has `ask` ask the server, perhaps twice: it must not matter.
    pub async fn call<T, F>(&self, ask: impl Fn(Connection) -> F + Send) -> Result<T, PortError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let ticket = self.circuit.admit()?;
        let outcome = match timeout(self.timeout, self.ask(ask)).await {
            Ok(outcome) => outcome.map_err(Fault::from),
            Err(_) => Err(Fault::Broken(format!("no answer within {}", humantime::format_duration(self.timeout)))),
        };
        let name = &self.circuit.name;
        match outcome {
            Ok(answer) => {
                self.circuit.note(ticket, None);
                Ok(answer)
            }
            Err(Fault::Refused(error)) => {
                self.circuit.note(ticket, None);
                Err(at(name, error))
            }
            Err(Fault::Broken(text)) => {
                // A timeout alone closes no socket, and a black hole would stay the connection for ever.
                *self.current() = None;
                self.circuit.note(ticket, Some(&text));
                Err(PortError::Unavailable(format!("{name}: {text}")))
            }
        }
    }

    /// A command without an answer of interest.
    pub async fn tell(&self, command: Cmd) -> Result<(), PortError> {
        let command = Arc::new(command);
        self.call(|mut connection| {
            let command = command.clone();
            async move { connection.query(&command).await }
        })
        .await
    }

    async fn ask<T, F>(&self, ask: impl Fn(Connection) -> F + Send) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let idle = self.current().clone();
        if let Some(connection) = idle {
            match ask(connection).await {
                // The server has closed it while it was idle, or has been started again.
                Err(error) if error.is_connection_dropped() => {}
                outcome => return outcome,
            }
        }
        // Two that connect at the same time cost a connection more, which closes with its last call.
        let connection = self.server.connect().await?;
        *self.current() = Some(connection.clone());
        ask(connection).await
    }

    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(name: &str, error: PortError) -> PortError {
    match error {
        PortError::Unavailable(text) => PortError::Unavailable(format!("{name}: {text}")),
        PortError::NotFound(text) => PortError::NotFound(format!("{name}: {text}")),
        PortError::Rejected(text) => PortError::Rejected(format!("{name}: {text}")),
        PortError::Corrupt(text) => PortError::Corrupt(format!("{name}: {text}")),
    }
}
