//! One Redis, or a cluster of them, behind one face: a command goes to whoever holds its key.

use std::{fmt, fs, path::Path, time::Duration};

use kubeml_actors::ports::PortError;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, Value,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::config::{RedisConfig, RedisUrl, Topology};

/// A peer that is silent for so long is asked by the kernel whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Bytes that nobody has acknowledged for so long end a connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Connecting to a node may take so long, or half of what a call may: then there is time to ask, or for other nodes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Redirections and short outages; a call's own timeout ends them.
const CLUSTER_RETRIES: u32 = 4;
const CLUSTER_RETRY_WAIT_MS: (u64, u64) = (10, 100);

/// How to connect.
pub enum Server {
    Single { client: redis::Client, connect_timeout: Duration },
    Cluster(Box<ClusterClient>),
}

/// Cheap to clone; clones share sockets, which close with the last.
#[derive(Clone)]
pub enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A node that holds keys of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Master {
    Only,
    At { host: String, port: u16 },
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => f.write_str("redis"),
            Self::At { host, port } => write!(f, "redis at {host}:{port}"),
        }
    }
}

impl Server {
    /// Connects to nobody yet. `timeout` is what a call on its connections may take.
    pub fn new(config: &RedisConfig, password: Option<&str>, timeout: Duration) -> Result<Self, PortError> {
        let nodes = config.urls.0.iter().map(|url| connection_info(url, config.username.as_deref(), password));
        let mut nodes = nodes.collect::<RedisResult<Vec<_>>>().map_err(unusable)?;
        let connect_timeout = CONNECT_TIMEOUT.min(timeout / 2);
        match config.topology {
            Topology::Single => {
                let node = nodes.pop().ok_or_else(|| PortError::Rejected("[cache.redis] urls is empty".to_owned()))?;
                let client = redis::Client::open(node).map_err(unusable)?;
                Ok(Self::Single { client, connect_timeout })
            }
            Topology::Cluster => {
                cluster(nodes, connect_timeout, timeout).map(Box::new).map(Self::Cluster).map_err(unusable)
            }
        }
    }

    pub async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Self::Single { client, connect_timeout } => {
                // Every call has a timeout around it.
                let config = AsyncConnectionConfig::new().set_response_timeout(None);
                let config = config.set_connection_timeout(Some(*connect_timeout));
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

fn connection_info(url: &RedisUrl, username: Option<&str>, password: Option<&str>) -> RedisResult<ConnectionInfo> {
    let mut login = RedisConnectionInfo::default().set_db(i64::from(url.database));
    if let Some(username) = username {
        login = login.set_username(username);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    let info = ConnectionAddr::Tcp(url.host.clone(), url.port).into_connection_info()?;
    Ok(info.set_redis_settings(login).set_tcp_settings(tcp_settings()))
}

fn cluster(nodes: Vec<ConnectionInfo>, connect_timeout: Duration, timeout: Duration) -> RedisResult<ClusterClient> {
    let (min_wait, max_wait) = CLUSTER_RETRY_WAIT_MS;
    // The cluster's client works on for callers that are gone, so it has timeouts of its own.
    ClusterClient::builder(nodes)
        .connection_timeout(connect_timeout)
        .response_timeout(timeout)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(min_wait)
        .max_retry_wait(max_wait)
        .tcp_settings(tcp_settings())
        .build()
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    let settings = settings.set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MAX);
    settings
}

/// Neither the URLs nor the password are in what the library says of them.
fn unusable(error: redis::RedisError) -> PortError {
    PortError::Rejected(format!("[cache.redis] cannot be used: {error}"))
}

/// The password in the file, without the line break that editors put behind it.
pub fn password_in(file: &Path) -> Result<String, PortError> {
    let wrong = |what: String| PortError::Rejected(format!("[cache.redis] password_file: {}: {what}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong("it is empty; write the password into it, or set password_file to \"\"".to_owned())),
        password => Ok(password.to_owned()),
    }
}

impl Connection {
    /// To whoever holds the command's key.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub async fn query_at<T: FromRedisValue>(&mut self, master: &Master, command: Cmd) -> RedisResult<T> {
        match (self, master) {
            (Self::Cluster(connection), Master::At { host, port }) => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                let answer = connection.route_command(command, RoutingInfo::SingleNode(node)).await?;
                Ok(redis::from_redis_value(answer.extract_error()?)?)
            }
            (connection, _) => connection.query(&command).await,
        }
    }

    /// Every node that holds keys; each has answered.
    pub async fn masters(&mut self) -> RedisResult<Vec<Master>> {
        match self {
            Self::Single(connection) => {
                redis::cmd("PING").query_async::<Value>(connection).await?;
                Ok(vec![Master::Only])
            }
            Self::Cluster(connection) => {
                let everyone = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let pongs = connection.route_command(redis::cmd("PING"), everyone).await?.extract_error()?;
                let pongs: Vec<(String, Value)> = redis::from_redis_value(pongs)?;
                pongs.into_iter().map(|(address, pong)| pong.extract_error().map(|_| master_at(&address))).collect()
            }
        }
    }
}

/// Addresses come from the library, which wrote them as `host:port`.
fn master_at(address: &str) -> Master {
    match address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => Master::At { host: host.to_owned(), port },
        None => Master::Only,
    }
}
