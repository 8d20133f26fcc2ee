//! The configuration: defaults < files < environment < flags, typed, with every problem found at once.
//!
//! ```text
//! Sources ──entries──> what was written, where ──reader──> typed sections ──> Config
//!                                                   └── settings: each key's value and origin (`config show`)
//!                                                   └── problems: unknown, unusable, contradictory (exit 78)
//! ```
//! `config/embedded.toml` is the bottom layer and the documentation of every key. A section is a struct and the
//! function that reads it, in a file of its own. An adapter's table is read by the adapter, which is entered in its
//! role's list of kinds (`store.rs`, `bus.rs`, `cache.rs`). Secrets never pass through here: keys name the files that hold them.

pub mod bus;
pub mod cache;
pub mod datasets;
pub mod events;
pub mod http;
pub mod node;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod trainer;

mod entries;
mod origin;
mod problem;
mod reader;
mod settings;
mod sources;
mod suggest;
mod unknown;
mod value;

pub use bus::Bus;
pub use cache::{Cache, MemoryCache};
pub use datasets::{Datasets, Mnist};
pub use entries::EMBEDDED;
pub use events::Events;
pub use http::Http;
pub use node::{Node, Role};
pub use origin::{Origin, variable_of};
pub use problem::{Problem, Problems};
pub use reader::{Key, Kind, OpenKeys, Table};
pub use settings::{Setting, Settings};
pub use sources::{Override, SourceFile, Sources};
pub use store::Store;
pub use tasks::Tasks;
pub use telemetry::{Format, Telemetry};
pub use trainer::{Engine, Trainer};
pub use value::{Bad, Choice, Retention, Value};

use reader::Reader;

/// How a node is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node: Node,
    pub http: Http,
    pub tasks: Tasks,
    pub events: Events,
    pub trainer: Trainer,
    pub store: Store,
    pub bus: Bus,
    pub cache: Cache,
    pub datasets: Datasets,
    pub telemetry: Telemetry,
    /// The same once more, key by key, with origins.
    pub settings: Settings,
}

/// Reads the configuration from its sources. Pure: all that it depends on is in `sources`.
///
/// # Errors
/// Everything that is wrong in any source.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut reader = Reader::new(sources);
    let node = Node::read(&mut reader.table("node"), sources);
    let http = Http::read(&mut reader.table("http"));
    let tasks = Tasks::read(&mut reader.table("tasks"));
    let events = Events::read(&mut reader.table("events"));
    let trainer = Trainer::read(&mut reader.table("trainer"), sources.cores);
    let store = Store::read(&mut reader.table("store"));
    let bus = Bus::read(&mut reader.table("bus"));
    let cache = Cache::read(&mut reader.table("cache"));
    let datasets = Datasets::read(&mut reader.table("datasets"));
    let telemetry = Telemetry::read(&mut reader.table("telemetry"));
    let in_cluster = matches!(store, Store::Cassandra(_));
    let pair = "the store \"cassandra\" and the bus \"kafka\" go together, as \"embedded\" and \"embedded\" do";
    reader.table("bus").require(&["kind"], in_cluster == matches!(bus, Bus::Kafka(_)), pair);
    let alone = "an embedded node is on its own: it needs the roles \"api\" and \"trainer\"";
    let has_both = node.has(Role::Api) && node.has(Role::Trainer);
    reader.table("node").require(&["roles"], in_cluster || has_both, alone);
    let settings = reader.finish()?;
    Ok(Config { node, http, tasks, events, trainer, store, bus, cache, datasets, telemetry, settings })
}

#[cfg(test)]
mod tests;
