//! Whether the servers make room when they are full. One that does not is a cache that stops taking anything.

use std::collections::HashMap;

use kubeml_actors::ports::PortError;
use redis::{RedisResult, cmd};

use super::{
    link::Link,
    server::{Connection, Master},
};

type Settings = HashMap<String, String>;

/// What to change, a line for each node that holds keys and needs it. Asking may be forbidden: then nothing is known of
/// that node, and nothing said.
pub async fn advice_on(link: &Link) -> Result<Vec<String>, PortError> {
    let masters = link.call(|mut connection| async move { connection.masters().await }).await?;
    let mut lines = Vec::new();
    for master in &masters {
        match link.call(|connection| settings_of(connection, master.clone())).await {
            Ok(settings) => lines.extend(advice(&settings).map(|advice| format!("{master}: {advice}"))),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => tracing::debug!(%master, %error, "cannot see its maxmemory-policy"),
        }
    }
    Ok(lines)
}

async fn settings_of(mut connection: Connection, master: Master) -> RedisResult<Settings> {
    let asked = cmd("CONFIG").arg("GET").arg("maxmemory*").clone();
    connection.query_at(&master, asked).await
}

fn advice(settings: &HashMap<String, String>) -> Option<String> {
    let setting = |name| settings.get(name).map(String::as_str);
    if setting("maxmemory-policy") != Some("noeviction") {
        return None;
    }
    let then = match setting("maxmemory") {
        Some("0") | None => "it has no maxmemory either and grows until its machine is full".to_owned(),
        Some(bytes) => format!("once its maxmemory of {bytes} bytes is reached, nothing new is cached"),
    };
    Some(format!("its maxmemory-policy is noeviction: {then}; set maxmemory, and maxmemory-policy allkeys-lru"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_for(policy: &str, maxmemory: &str) -> Option<String> {
        let settings = [("maxmemory-policy", policy), ("maxmemory", maxmemory), ("maxmemory-samples", "5")];
        advice(&settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn only_noeviction_is_warned_of() {
        assert_eq!(advice_for("allkeys-lru", "1048576"), None);
        assert_eq!(advice_for("volatile-ttl", "0"), None);
        assert_eq!(advice(&HashMap::new()), None);
        assert!(advice_for("noeviction", "1048576").is_some_and(|text| text.contains("1048576 bytes")));
        assert!(advice_for("noeviction", "0").is_some_and(|text| text.contains("no maxmemory either")));
    }
}
