//! `[node]`: who this node is and where it keeps its data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Table;
use super::sources::Sources;
use super::value::Choice;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique in the cluster; the first part of `worker_id`.
    pub id: String,
    /// Not empty, each role once.
    pub roles: Vec<Role>,
    pub data_dir: PathBuf,
    /// How long a node that was told to stop may take.
    pub drain_timeout: Duration,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes tasks and answers questions about them.
    Api,
    /// Trains.
    Trainer,
}

impl Choice for Role {
    const CHOICES: &'static [(&'static str, Self)] = &[("api", Self::Api), ("trainer", Self::Trainer)];
}

impl Node {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(super) fn read(table: &mut Table<'_>, sources: &Sources) -> Self {
        let node = Self {
            id: table.key("id").only("1 to 64 letters, digits, '.', '_' or '-'", |id: &String| is_id(id)).get(),
            roles: table
                .key("roles")
                .only("\"api\", \"trainer\" or both, each once", |roles: &Vec<Role>| is_role_set(roles))
                .get(),
            data_dir: table.key("data_dir").or(default_data_dir(sources).unwrap_or_default()),
            drain_timeout: table.key("drain_timeout").within(Duration::ZERO..=Duration::from_hours(1)).get(),
        };
        let homeless = "must be set here: its default needs one of STATE_DIRECTORY, XDG_DATA_HOME and HOME";
        table.require(&["data_dir"], !node.data_dir.as_os_str().is_empty(), homeless);
        node
    }
}

/// It is a part of `worker_id` ("node-1/0") and of file and topic names.
fn is_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=64).contains(&id.len()) && id.chars().all(is_allowed)
}

fn is_role_set(roles: &[Role]) -> bool {
    let mut once = roles.to_vec();
    once.sort();
    once.dedup();
    !roles.is_empty() && once.len() == roles.len()
}

/// systemd's `StateDirectory=` (the first, if it gives several), else the XDG data directory.
fn default_data_dir(sources: &Sources) -> Option<PathBuf> {
    let path_in = |variable| sources.surroundings(variable).map(Path::new);
    if let Some(states) = sources.surroundings("STATE_DIRECTORY") {
        return std::env::split_paths(states).next();
    }
    // The XDG specification: a relative path is invalid and must be ignored.
    let xdg = path_in("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(Path::to_owned);
    let data = xdg.or_else(|| path_in("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("kubeml"))
}
