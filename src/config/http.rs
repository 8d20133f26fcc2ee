//! `[http]`: the API, the event stream and the web page.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Table;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
    /// Origins (`scheme://host[:port]`) whose pages may call the API; never a wildcard.
    pub cors_origins: Vec<String>,
    pub body_bytes_max: usize,
    /// Serves the web page from this directory instead of the one that is built in.
    pub ui_dir: Option<PathBuf>,
    /// Whether actors and trainers may be crashed over the API.
    pub fault_injection: bool,
}

impl Http {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            listen: table.key("listen").get(),
            cors_origins: table
                .key("cors_origins")
                .only(
                    "a list of origins such as \"http://localhost:3001\", without path and wildcard",
                    |it: &Vec<String>| are_origins(it),
                )
                .get(),
            body_bytes_max: table.key("body_bytes_max").within(1 << 10..=1 << 30).get(),
            ui_dir: table.key("ui_dir").get(),
            fault_injection: table.key("fault_injection").get(),
        }
    }
}

fn are_origins(origins: &[String]) -> bool {
    origins.iter().all(|origin| is_origin(origin))
}

/// As browsers send it: `scheme://host[:port]`, nothing after it.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let authority_is_plain =
        authority.parse::<hyper::http::uri::Authority>().is_ok_and(|it| !it.as_str().contains('@'));
    matches!(scheme, "http" | "https") && authority_is_plain && !authority.contains('*')
}
