//! The downloader against a server on this machine that cuts, refuses, lies and keeps silent.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use super::*;

/// What the file unpacks to; it is served as it is, which does as well.
const CONTENT: &[u8] = b"nine and twenty bytes of file";
const HALF: usize = 14;
static FILE: Original = Original {
    name: "file",
    bytes: CONTENT.len() as u64,
    sha256: "68cf084cc9f3e6f619f511c6001848660a1a66836e6b7b3b0cf4a3d2d6a8dc01",
};

/// Answers the n-th connection with the n-th answer, then closes it; when there are no more, it is gone.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mnist/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        tokio::spawn(async move {
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.unwrap());
                }
                heard.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
                connection.write_all(&answer).await.unwrap();
                connection.shutdown().await.unwrap();
            }
        });
        Self { url, requests }
    }

    fn downloader(&self, cache: &TempDir) -> Downloader {
        Downloader::with_client(client().no_proxy(), &self.url, cache.path()).unwrap()
    }

    /// Of each request, where it asked to begin.
    fn ranges(&self) -> Vec<Option<usize>> {
        let requests = self.requests.lock().unwrap();
        let begin = |request: &String| request.split_once("range: bytes=")?.1.split_once('-')?.0.parse().ok();
        requests.iter().map(begin).collect()
    }
}

fn answer(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn whole(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "", body.len(), body)
}

fn cut(body: &[u8], after: usize) -> Vec<u8> {
    answer("200 OK", "", body.len(), &body[..after])
}

fn rest(body: &[u8], from: usize) -> Vec<u8> {
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
    answer("206 Partial Content", &range, body.len() - from, &body[from..])
}

fn part_of(cache: &TempDir) -> Vec<u8> {
    std::fs::read(cache.path().join("file.gz.part")).unwrap()
}

async fn fetch(server: &Server, cache: &TempDir) -> Result<Vec<u8>, Error> {
    let path = server.downloader(cache).fetch(&FILE, &FetchProgress::ignored()).await?;
    assert_eq!(path, cache.path().join("file.gz"));
    assert!(!cache.path().join("file.gz.part").exists(), "the part became the file");
    Ok(std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_file_is_downloaded_and_every_byte_reported() {
    let (server, cache) = (Server::start(vec![whole(CONTENT)]).await, TempDir::new().unwrap());
    let reports = Arc::new(Mutex::new(Vec::new()));
    let progress = FetchProgress::new({
        let reports = Arc::clone(&reports);
        move |report| reports.lock().unwrap().push(report)
    });
    server.downloader(&cache).fetch(&FILE, &progress).await.unwrap();

    let bytes_total = Some(CONTENT.len() as u64);
    let report = |bytes_done| Fetching { item: "file.gz".to_owned(), bytes_done, bytes_total };
    let reports = reports.lock().unwrap();
    assert_eq!((reports.first(), reports.last()), (Some(&report(0)), Some(&report(CONTENT.len() as u64))));
    assert!(server.requests.lock().unwrap()[0].starts_with("get /mnist/file.gz http/1.1"));
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_was_cut() {
    let answers = vec![cut(CONTENT, HALF), rest(CONTENT, HALF)];
    let (server, cache) = (Server::start(answers).await, TempDir::new().unwrap());
    assert_eq!(fetch(&server, &cache).await.unwrap(), CONTENT);
    assert_eq!(server.ranges(), [None, Some(HALF)]);
}

#[tokio::test]
async fn a_later_call_resumes_what_an_earlier_one_left() {
    let cache = TempDir::new().unwrap();
    let server = Server::start(vec![cut(CONTENT, HALF)]).await;
    let error = fetch(&server, &cache).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "the server is gone after one connection: {error}");
    assert_eq!(part_of(&cache), CONTENT[..HALF]);

    let server = Server::start(vec![rest(CONTENT, HALF)]).await;
    assert_eq!(fetch(&server, &cache).await.unwrap(), CONTENT);
    assert_eq!(server.ranges(), [Some(HALF)]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_everything_again() {
    let answers = vec![cut(CONTENT, HALF), whole(CONTENT)];
    let (server, cache) = (Server::start(answers).await, TempDir::new().unwrap());
    assert_eq!(fetch(&server, &cache).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn a_part_that_is_whole_already_is_not_asked_for_again() {
    let answers = vec![answer("416 Range Not Satisfiable", "", 0, b"")];
    let (server, cache) = (Server::start(answers).await, TempDir::new().unwrap());
    std::fs::write(cache.path().join("file.gz.part"), CONTENT).unwrap();
    assert_eq!(fetch(&server, &cache).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn a_part_of_something_else_is_started_over() {
    let answers = vec![rest(CONTENT, HALF), whole(CONTENT)];
    let (server, cache) = (Server::start(answers).await, TempDir::new().unwrap());
    std::fs::write(cache.path().join("file.gz.part"), vec![b'?'; HALF]).unwrap();
    assert_eq!(fetch(&server, &cache).await.unwrap(), CONTENT);
    assert_eq!(server.ranges(), [Some(HALF), None]);
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    let (server, cache) = (Server::start(vec![rest(CONTENT, HALF + 1)]).await, TempDir::new().unwrap());
    std::fs::write(cache.path().join("file.gz.part"), &CONTENT[..HALF]).unwrap();
    let error = fetch(&server, &cache).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(part_of(&cache), CONTENT[..HALF]);
}

#[tokio::test]
async fn wrong_contents_never_get_the_file_name() {
    let wrong = vec![b'?'; CONTENT.len()];
    let (server, cache) = (Server::start(vec![whole(&wrong)]).await, TempDir::new().unwrap());
    let error = fetch(&server, &cache).await.unwrap_err();
    assert!(error.to_string().contains(&format!("expected SHA-256 {} of its unpacked bytes", FILE.sha256)), "{error}");
    assert!(!cache.path().join("file.gz").exists());
    assert_eq!(part_of(&cache), b"", "the next call starts over");
}

#[tokio::test]
async fn a_file_without_end_is_given_up() {
    let (server, cache) = (Server::start(vec![whole(&[0; 4096])]).await, TempDir::new().unwrap());
    let error = fetch(&server, &cache).await.unwrap_err();
    assert!(matches!(error, Error::TooLong { expected: 29, .. }), "{error}");
}

#[tokio::test]
async fn a_missing_file_is_told_with_its_address() {
    let (server, cache) = (Server::start(vec![answer("404 Not Found", "", 0, b"")]).await, TempDir::new().unwrap());
    let error = fetch(&server, &cache).await.unwrap_err();
    let expected =
        format!("cannot download {}file.gz: expected status 200, or 206 from byte 0, found 404 Not Found", server.url);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_refused_connection_is_told_with_its_cause() {
    // Bound, so nobody else gets the port; not listening, so nobody is let in.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/mnist/", socket.local_addr().unwrap());
    let (server, cache) = (Server { url, requests: Arc::default() }, TempDir::new().unwrap());
    let error = fetch(&server, &cache).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot reach {}file.gz: ", server.url)), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cache = TempDir::new().unwrap();
    let impatient = client().no_proxy().read_timeout(Duration::from_millis(50));
    let downloader = Downloader::with_client(impatient, &url, cache.path()).unwrap();
    let error = downloader.fetch(&FILE, &FetchProgress::ignored()).await.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn who_comes_second_waits_and_downloads_nothing() {
    let (server, cache) = (Server::start(vec![whole(CONTENT)]).await, TempDir::new().unwrap());
    let (first, second) = (server.downloader(&cache), server.downloader(&cache));
    let progress = FetchProgress::ignored();
    let (first, second) = tokio::join!(first.fetch(&FILE, &progress), second.fetch(&FILE, &progress));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(server.ranges().len(), 1);
}
