//! A source of the datasets that it was given.

use async_trait::async_trait;

use crate::{
    dataset::RawDataset,
    ports::{DatasetSource, FetchProgress, Fetching, PortError},
};

#[derive(Clone, Debug, Default)]
pub struct FixedSource {
    datasets: Vec<RawDataset>,
}

impl FixedSource {
    pub fn new(datasets: impl IntoIterator<Item = RawDataset>) -> Self {
        Self { datasets: datasets.into_iter().collect() }
    }
}

#[async_trait]
impl DatasetSource for FixedSource {
    fn names(&self) -> Vec<String> {
        self.datasets.iter().map(|dataset| dataset.name.clone()).collect()
    }

    async fn fetch(&self, name: &str, progress: &FetchProgress) -> Result<RawDataset, PortError> {
        let Some(dataset) = self.datasets.iter().find(|dataset| dataset.name == name) else {
            let known = self.names().join(", ");
            return Err(PortError::NotFound(format!("there is no dataset {name:?}; expected one of: {known}")));
        };
        let bytes = [&dataset.train, &dataset.test].map(|split| (split.images.len() + split.labels.len()) as u64);
        let bytes: u64 = bytes.iter().sum();
        progress.report(Fetching { item: name.to_owned(), bytes_done: bytes, bytes_total: Some(bytes) });
        Ok(dataset.clone())
    }
}
