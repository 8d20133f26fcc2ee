//! A client of the global event stream that reconnects with `Last-Event-ID`, as browsers do.

use std::time::Duration;

use kubeml_actors::ports::Position;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

const DEADLINE: Duration = Duration::from_secs(240);

/// What a client has heard, in order: the id of each event and its data.
#[derive(Clone, Debug, Default)]
pub struct Heard(pub Vec<(String, Value)>);

pub struct Listener {
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Listens to everything from the beginning of the log, through any number of the server's lives.
    pub fn start(url: &str) -> Self {
        let (sender, heard) = watch::channel(Heard::default());
        let url = format!("{url}/api/v1/events");
        let task = tokio::spawn(async move {
            let client = reqwest::Client::new();
            loop {
                // The server may be dead just now.
                let _ = listen(&client, &url, &sender).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { heard, task }
    }

    pub async fn wait_for(&mut self, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let heard = tokio::time::timeout(DEADLINE, self.heard.wait_for(|heard| wanted(heard))).await;
        heard.expect("the stream gets there").unwrap().clone()
    }
}

async fn listen(client: &reqwest::Client, url: &str, heard: &watch::Sender<Heard>) -> reqwest::Result<()> {
    let last = heard.borrow().0.last().map_or_else(|| "0".to_owned(), |(id, _)| id.clone());
    let mut response = client.get(url).header("last-event-id", last).send().await?.error_for_status()?;
    let mut buffer = String::new();
    while let Some(chunk) = response.chunk().await? {
        buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = buffer.find("\n\n") {
            let block: String = buffer.drain(..end + 2).collect();
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
            if field("event:").as_deref() == Some("bye") {
                continue;
            }
            assert_ne!(field("event:").as_deref(), Some("gap"), "nothing was trimmed");
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                let data = serde_json::from_str(&data).unwrap();
                heard.send_modify(|heard| heard.0.push((id, data)));
            }
        }
    }
    Ok(())
}

impl Heard {
    pub fn of_task(&self, id: &str) -> Vec<&Value> {
        self.0.iter().map(|(_, data)| data).filter(|data| data["task_id"] == id).collect()
    }

    pub fn has_ended(&self, id: &str) -> bool {
        self.of_task(id).last().is_some_and(|event| is_terminal(event))
    }

    /// Every id once, and growing.
    pub fn assert_ids_grow(&self) {
        let ids: Vec<Position> = self.0.iter().map(|(id, _)| id.parse().unwrap()).collect();
        assert!(ids.windows(2).all(|pair| pair[1].covers(&pair[0]) && pair[0] != pair[1]), "{ids:?}");
    }

    /// Exactly the task's history: in order, each once, one end.
    pub fn assert_is_history(&self, id: &str, history: &[Value]) {
        let heard = self.of_task(id);
        let unheard: Vec<&Value> = history.iter().filter(|stored| !heard.contains(stored)).collect();
        assert!(unheard.is_empty(), "not heard: {unheard:?}; heard: {}", seqs(&heard));
        let stored: Vec<&Value> = history.iter().collect();
        assert!(heard == stored, "heard: {}; stored: {}", seqs(&heard), seqs(&stored));
        assert_eq!(heard.iter().filter(|event| is_terminal(event)).count(), 1);
        assert_no_holes(history);
    }
}

/// As attempt/n.
fn seqs(events: &[&Value]) -> String {
    let seqs = events.iter().filter_map(|event| event["seq"].as_u64());
    seqs.map(|seq| format!("{}/{}", seq >> 40, seq & ((1 << 40) - 1))).collect::<Vec<_>>().join(" ")
}

fn is_terminal(event: &Value) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&event["kind"].as_str().unwrap())
}

/// In each attempt the owner's facts are numbered 0, 1, 2 …; the places of its end are the last two.
fn assert_no_holes(history: &[Value]) {
    let places =
        history.iter().map(|event| event["seq"].as_u64().unwrap()).map(|seq| (seq >> 40, seq & ((1 << 40) - 1)));
    let own: Vec<(u64, u64)> = places.filter(|(_, n)| *n < (1 << 40) - 2).collect();
    for pair in own.windows(2) {
        let ((attempt, n), (next_attempt, next_n)) = (pair[0], pair[1]);
        let follows = (next_attempt == attempt && next_n == n + 1) || (next_attempt > attempt && next_n == 0);
        assert!(follows, "{attempt}/{n} is followed by {next_attempt}/{next_n}");
    }
}
