//! `[datasets]`: where the datasets that KubeML knows by name come from.

use std::path::PathBuf;

use super::reader::Table;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datasets {
    pub mnist: Mnist,
}

/// `[datasets.mnist]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mnist {
    /// A directory that holds its four files.
    pub dir: Option<PathBuf>,
    /// Whether it may be fetched from the network when it is not on disk.
    pub download: bool,
}

impl Datasets {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self { mnist: Mnist::read(&mut table.table("mnist")) }
    }
}

impl Mnist {
    fn read(table: &mut Table<'_>) -> Self {
        Self { dir: table.key("dir").get(), download: table.key("download").get() }
    }
}
