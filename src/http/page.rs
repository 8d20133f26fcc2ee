//! The page at `/`: three static files, built in, or read from `[http] ui_dir` by whoever works on it; and `/docs`.

use std::path::Path;

use kubeml_spec::{
    Field,
    catalogue::{all_fields, applies_in_words, default_in_words},
};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    call::{Answer, Call, Text, empty, header_value},
    error::{Code, Problem},
};

const INDEX: &str = "index.html";
const BUILT_IN: [(&str, &str); 3] = [
    (INDEX, include_str!("page/index.html")),
    ("app.css", include_str!("page/app.css")),
    ("app.js", include_str!("page/app.js")),
];
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// `GET /`
pub async fn index(call: Call) -> Answer {
    file(&call, INDEX).await
}

/// `GET /docs`: every route of this server, made from the table that serves them.
pub async fn docs(call: Call) -> Answer {
    let routes = super::routes(&call.api);
    let rows: String =
        routes.iter().map(|it| format!("<tr><td>{}<td><code>{}</code>\n", it.method, it.pattern)).collect();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>KubeML API</title>\n\
         <link rel=\"stylesheet\" href=\"/assets/app.css\"><main><h1>KubeML API</h1><table>\n{rows}</table>\n\
         <h2>Hyperparameters</h2><table>\n{}</table></main></html>\n",
        hyperparameters()
    );
    let mut response = Response::new(page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(INDEX));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

/// A row for each field that a training may have.
fn hyperparameters() -> String {
    let row = |field: &Field| {
        let (name, values, help) = (field.name, field.values(), field.help);
        let (default, applies) = (default_in_words(field), applies_in_words(field));
        format!("<tr><td><code>{name}</code><td>{values}<td>{default}<td>{applies}<td>{help}\n")
    };
    let header = "<tr><th>field<th>values<th>default<th>applies to<th>\n";
    header.to_owned() + &all_fields().into_iter().map(row).collect::<String>()
}

/// `GET /assets/{file}`
pub async fn asset(name: Text, call: Call) -> Answer {
    file(&call, &name.to_string()).await
}

async fn file(call: &Call, name: &str) -> Answer {
    let bytes = match &call.api.config.ui_dir {
        Some(dir) => read(dir, name).await?,
        None => {
            let found = BUILT_IN.into_iter().find(|(known, _)| *known == name).map(|(_, text)| text);
            found.ok_or_else(not_found)?.as_bytes().to_vec()
        }
    };
    let etag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..16]);
    let known = call.header("if-none-match")?.is_some_and(|tags| tags.contains(&etag));
    let mut response = if known { empty(StatusCode::NOT_MODIFIED) } else { Response::new(bytes.into()) };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(name));
    headers.insert(header::ETAG, header_value(&etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// One of the directory's own files: a name with a separator in it leads elsewhere.
async fn read(dir: &Path, name: &str) -> Result<Vec<u8>, Problem> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if name.starts_with('.') || !name.chars().all(plain) {
        return Err(not_found());
    }
    let dir = if name == INDEX { dir.to_owned() } else { dir.join("assets") };
    tokio::fs::read(dir.join(name)).await.map_err(|error| {
        tracing::debug!(%error, name, "no such file in [http] ui_dir");
        not_found()
    })
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "Not Found")
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    })
}
