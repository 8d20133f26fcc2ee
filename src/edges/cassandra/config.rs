//! `[store.cassandra]`: where the database is, and how patiently it is asked.

use std::{path::PathBuf, time::Duration};

use crate::config::Table;

/// The port of a contact point that names none.
const PORT: u16 = 9042;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CassandraConfig {
    /// `host` or `host:port`; the rest of the cluster is discovered.
    pub contact_points: Vec<String>,
    pub keyspace: String,
    /// What `kubeml admin init` makes the keyspace with.
    pub replication_factor: usize,
    /// Unset: the one of the node that answers first.
    pub local_datacenter: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Chunks of datasets and artifacts that are on their way at once.
    pub chunk_requests_max: usize,
    pub connect_timeout: Duration,
    /// Of everything but chunks.
    pub request_timeout: Duration,
    pub chunk_timeout: Duration,
}

impl CassandraConfig {
    pub fn read(table: &mut Table<'_>) -> Self {
        let seconds = |from, to| Duration::from_millis(from)..=Duration::from_secs(to);
        let config = Self {
            contact_points: table
                .key("contact_points")
                .only("a list of hosts, each with or without a port, such as \"10.0.0.1:9042\"", |it: &Vec<String>| {
                    are_hosts(it)
                })
                .get(),
            keyspace: table
                .key("keyspace")
                .only("1 to 48 lower-case letters, digits and '_', a letter first", |name: &String| is_keyspace(name))
                .get(),
            replication_factor: table.key("replication_factor").within(1..=3).get(),
            local_datacenter: table.key("local_datacenter").get(),
            username: table.key("username").get(),
            password_file: table.key("password_file").get(),
            chunk_requests_max: table.key("chunk_requests_max").within(1..=64).get(),
            connect_timeout: table.key("connect_timeout").within(seconds(100, 60)).get(),
            request_timeout: table.key("request_timeout").within(seconds(100, 60)).get(),
            chunk_timeout: table.key("chunk_timeout").within(seconds(100, 600)).get(),
        };
        let is_pair = config.username.is_some() == config.password_file.is_some();
        table.require(&["username", "password_file"], is_pair, "one needs the other");
        config
    }

    /// As the driver wants them: every one with a port.
    pub fn addresses(&self) -> Vec<String> {
        self.contact_points.iter().map(|point| with_port(point)).collect()
    }

    /// What errors call the database.
    pub fn place(&self) -> String {
        format!("cassandra at {}, keyspace {}", self.addresses().join(", "), self.keyspace)
    }
}

fn with_port(point: &str) -> String {
    let is_bare_v6 = point.matches(':').count() > 1 && !point.contains(']');
    match point.rsplit_once(':') {
        Some(_) if is_bare_v6 => format!("[{point}]:{PORT}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => point.to_owned(),
        _ => format!("{point}:{PORT}"),
    }
}

fn are_hosts(points: &[String]) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let is_host = |point: &String| match with_port(point).rsplit_once(':') {
        Some((host, port)) => {
            let is_bracketed = host.starts_with('[') && host.ends_with(']');
            let is_whole = !host.is_empty() && host.contains(':') == is_bracketed;
            is_whole && host.chars().all(is_plain) && port.parse().is_ok_and(|port: u16| port > 0)
        }
        None => false,
    };
    !points.is_empty() && points.iter().all(is_host)
}

fn is_keyspace(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 48 && name.chars().all(is_allowed) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_points_get_the_usual_port() {
        for (written, meant) in [
            ("db", "db:9042"),
            ("10.0.0.1:19042", "10.0.0.1:19042"),
            ("::1", "[::1]:9042"),
            ("[::1]", "[::1]:9042"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(with_port(written), meant);
            assert!(are_hosts(&[written.to_owned()]), "{written}");
        }
        for bad in ["", ":9042", "db:0", "db:x", "http://db", "a b"] {
            assert!(!are_hosts(&[bad.to_owned()]), "{bad}");
        }
    }

    #[test]
    fn keyspaces_need_no_quotes() {
        assert!(["kubeml", "k", "k_2"].into_iter().all(is_keyspace));
        assert!(!["", "2k", "_k", "K", "k-2", &"k".repeat(49)].into_iter().any(is_keyspace));
    }
}
