//! `[cache.redis]`: one server, or the nodes by which a cluster is found.

use std::{fmt, path::PathBuf, time::Duration};

use crate::config::{Bad, Table, Value};

const DEFAULT_PORT: u16 = 6379;
const WITH_SECRETS: &str = "a URL with a user, a password or parameters is not allowed (write the user into \
                            cache.redis.username, and the password into the file that cache.redis.password_file names)";
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_hours(24 * 365);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    Single,
    Cluster,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    pub topology: Topology,
    pub urls: RedisUrls,
    /// How long what was written is kept, a tenth more or less.
    pub ttl: Duration,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    /// What every key begins with.
    pub key_prefix: String,
}

impl RedisConfig {
    pub fn read(table: &mut Table<'_>, topology: Topology) -> Self {
        let is_prefix = |prefix: &String| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
            (1..=64).contains(&prefix.len()) && prefix.chars().all(is_plain)
        };
        Self {
            topology,
            urls: table.key("urls").only("at least one URL", |urls: &RedisUrls| !urls.0.is_empty()).get(),
            ttl: table.key("ttl").within(TTL_MIN..=TTL_MAX).get(),
            username: table.key("username").get(),
            password_file: table.key("password_file").get(),
            key_prefix: table.key("key_prefix").only("1 to 64 letters, digits, '.', '_', '-' or ':'", is_prefix).get(),
        }
    }

    /// Its name in the configuration.
    pub fn kind(&self) -> &'static str {
        match self.topology {
            Topology::Single => "redis",
            Topology::Cluster => "redis-cluster",
        }
    }

    /// What is wrong with the keys together, if anything.
    pub fn contradiction(&self) -> Option<&'static str> {
        let urls = &self.urls.0;
        match self.topology {
            Topology::Single if urls.len() > 1 => {
                Some("one server has one URL; for the nodes of a cluster, set cache.kind to \"redis-cluster\"")
            }
            Topology::Cluster if urls.iter().any(|url| url.database != 0) => {
                Some("a cluster has database 0 only; leave the number at the end of the URL away")
            }
            _ => None,
        }
    }
}

/// Where a server listens. Holds no secret: a URL that does is refused, and not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    pub database: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrls(pub Vec<RedisUrl>);

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database } = self;
        match host.contains(':') {
            true => write!(f, "redis://[{host}]:{port}")?,
            false => write!(f, "redis://{host}:{port}")?,
        }
        if *database == 0 { Ok(()) } else { write!(f, "/{database}") }
    }
}

impl fmt::Display for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.0.iter().map(RedisUrl::to_string).collect();
        f.write_str(&urls.join(", "))
    }
}

impl RedisUrl {
    fn parse(text: &str) -> Result<Self, Bad> {
        let refused = |wrong: String| Bad { wrong, allowed: RedisUrls::allowed(), meant: None };
        // What may hold a password is not repeated.
        if text.contains(['@', '?', '#']) {
            return Err(refused(WITH_SECRETS.to_owned()));
        }
        let shown = toml::Value::String(text.to_owned());
        if text.starts_with("rediss:") {
            return Err(refused(format!("{shown} asks for TLS, which this build does not carry (use a tunnel)")));
        }
        Self::of_parts(text).ok_or_else(|| refused(format!("{shown} is not allowed")))
    }

    fn of_parts(text: &str) -> Option<Self> {
        let url = redis::parse_redis_url(text).filter(|url| url.scheme() == "redis")?;
        let host = url.host_str().filter(|host| !host.is_empty())?.trim_matches(['[', ']']).to_owned();
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().ok()?,
        };
        Some(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), database })
    }
}

impl Value for RedisUrls {
    fn allowed() -> String {
        "a list of URLs such as \"redis://10.0.0.5:6379\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Self, Bad> {
        // As a whole first: a password may have a comma.
        if text.contains('@') {
            return RedisUrl::parse(text).map(|url| Self(vec![url]));
        }
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(RedisUrl::parse).collect::<Result<_, _>>().map(Self)
    }

    /// A text counts as a list, too. What is neither is not repeated: it may hold a password.
    fn from_toml(value: &toml::Value) -> Result<Self, Bad> {
        let bad = |value: &toml::Value| Bad {
            wrong: format!("a value of type {} is not allowed", value.type_str()),
            allowed: Self::allowed(),
            meant: None,
        };
        match value {
            toml::Value::String(text) => Self::from_text(text),
            toml::Value::Array(urls) => {
                let parse = |url: &toml::Value| url.as_str().ok_or_else(|| bad(url)).and_then(RedisUrl::parse);
                urls.iter().map(parse).collect::<Result<_, _>>().map(Self)
            }
            other => Err(bad(other)),
        }
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Array(self.0.iter().map(|url| toml::Value::String(url.to_string())).collect())
    }
}

#[cfg(test)]
mod tests;
