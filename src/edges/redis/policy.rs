//! Whether the server makes room when it is full. One that does not is a cache that stops taking anything.

use std::collections::HashMap;

use redis::RedisResult;

use super::server::Connection;

/// Says so in the log if not. Asking may be forbidden: then nothing is known, and nothing said.
pub async fn look_at(connection: &mut Connection, name: &str) {
    let asked = redis::cmd("CONFIG").arg("GET").arg("maxmemory*").clone();
    let answer: RedisResult<HashMap<String, String>> = connection.query(&asked).await;
    match answer {
        Ok(settings) => {
            if let Some(advice) = advice(&settings) {
                tracing::warn!(redis = name, "{advice}");
            }
        }
        Err(error) => tracing::debug!(redis = name, %error, "cannot see its maxmemory-policy"),
    }
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
