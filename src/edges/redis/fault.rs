//! What an error of Redis means: is the server at fault, or what it was asked?

use kubeml_actors::ports::PortError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers, or nobody who could. The breaker counts it, and the connection is not used again.
    Broken(String),
    /// The server is well, and refuses.
    Refused(PortError),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, ResponseError, TryAgain};
        let unavailable = |hint| Self::Refused(PortError::Unavailable(format!("{error}; {hint}")));
        let rejected = |hint| Self::Refused(PortError::Rejected(format!("{error}; {hint}")));
        match (error.kind(), error.code()) {
            (_, Some("OOM")) => unavailable("raise its maxmemory, or set its maxmemory-policy to allkeys-lru"),
            (_, Some("MISCONF")) => unavailable("it cannot write to its disk"),
            (_, Some("NOAUTH" | "WRONGPASS")) => rejected("set [cache.redis] username and password_file"),
            (_, Some("NOPERM")) => rejected("its user may not do this; see `redis-cli acl list`"),
            (ErrorKind::Server(Moved | Ask), _) => {
                rejected("this is a node of a cluster: set [cache] kind to \"redis-cluster\"")
            }
            (ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain), _) => {
                Self::Broken(error.to_string())
            }
            (ErrorKind::Server(ResponseError | _) | ErrorKind::Extension, _) => {
                Self::Refused(PortError::Rejected(error.to_string()))
            }
            (ErrorKind::UnexpectedReturnType, _) => Self::Refused(PortError::Corrupt(error.to_string())),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Whether the key holds something that is no string: not ours, then.
pub fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::parse_redis_value;

    use super::*;

    /// As the server writes it.
    fn answered(line: &str) -> Fault {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("it is an answer");
        value.extract_error().expect_err("it is an error").into()
    }

    #[test]
    fn a_server_that_refuses_is_well() {
        for (line, transient, hint) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", true, "allkeys-lru"),
            ("MISCONF Redis is configured to save RDB snapshots", true, "its disk"),
            ("NOAUTH Authentication required.", false, "password_file"),
            ("NOPERM this user has no permissions", false, "acl list"),
            ("MOVED 866 127.0.0.1:7002", false, "redis-cluster"),
            ("ERR unknown command", false, "unknown command"),
            ("WRONGTYPE Operation against a key", false, "WRONGTYPE"),
        ] {
            match answered(line) {
                Fault::Refused(error) => {
                    assert_eq!(error.is_transient(), transient, "{line}");
                    assert!(error.to_string().contains(hint), "{error}");
                }
                Fault::Broken(text) => panic!("{line}: {text}"),
            }
        }
    }

    #[test]
    fn a_server_that_cannot_serve_is_broken() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "READONLY You can't write against a read only replica.",
        ] {
            assert!(matches!(answered(line), Fault::Broken(_)), "{line}");
        }
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused, io::ErrorKind::BrokenPipe] {
            assert!(matches!(RedisError::from(io::Error::from(kind)).into(), Fault::Broken(_)), "{kind}");
        }
    }
}
