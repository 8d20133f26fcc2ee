//! What every [`DatasetSource`] promises.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use super::Kept;
use crate::ports::{DatasetSource, FetchProgress, PortError};

/// `$open` gives an `async || -> Arc<impl DatasetSource>`.
#[macro_export]
macro_rules! dataset_source_contract {
    ($open:expr) => {
        $crate::contract_tests!(
            dataset_source,
            $open,
            [an_unknown_name_is_not_found, every_name_is_told_once, what_is_fetched_is_sound_and_bears_its_name,]
        );
    };
}

pub async fn an_unknown_name_is_not_found<S: DatasetSource + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let answer = open().await.fetch("no-such-dataset", &FetchProgress::ignored()).await;
    assert!(matches!(answer, Err(PortError::NotFound(_))), "{answer:?}");
    Ok(())
}

pub async fn every_name_is_told_once<S: DatasetSource + 'static>(open: impl AsyncFn() -> Arc<S>) -> Kept {
    let names = open().await.names();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    Ok(())
}

pub async fn what_is_fetched_is_sound_and_bears_its_name<S: DatasetSource + 'static>(
    open: impl AsyncFn() -> Arc<S>,
) -> Kept {
    let source = open().await;
    for name in source.names() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = heard.clone();
        let progress = FetchProgress::new(move |fetching| listener.lock().expect("nobody panics").push(fetching));
        match source.fetch(&name, &progress).await {
            // It is to be had nowhere just now.
            Err(PortError::NotFound(_)) => {}
            fetched => {
                let fetched = fetched?;
                assert_eq!((fetched.check(), &fetched.name), (Ok(()), &name));
            }
        }
        for fetching in heard.lock().expect("nobody panics").iter() {
            assert!(fetching.bytes_total.is_none_or(|total| fetching.bytes_done <= total), "{fetching:?}");
        }
    }
    Ok(())
}
