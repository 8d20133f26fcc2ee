//! All keys of a pattern, on every node that holds keys: found by scanning, a bounded batch at a time.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use kubeml_actors::ports::PortError;
use redis::{RedisResult, cmd};

use super::{
    fault::is_wrong_type,
    link::Link,
    server::{Connection, Master},
};
use crate::codec::cached_chunk::{self, HEAD_BYTES_MAX};

/// How many keys the server looks at for one answer.
const SCAN_COUNT: usize = 1_000;
/// Answers that are waited for to count: 16,000 keys of all kinds on each node.
const SCANS_MAX: usize = 16;
/// Small commands under way on one connection.
const IN_FLIGHT_MAX: usize = 50;

/// How many chunks there are, and their bytes.
pub async fn count(link: &Link, pattern: &str) -> Result<(u64, u64), PortError> {
    link.call(|connection| count_on(connection, pattern)).await
}

async fn count_on(mut connection: Connection, pattern: &str) -> RedisResult<(u64, u64)> {
    // A scan may name a key twice.
    let mut keys = HashSet::new();
    for master in connection.masters().await? {
        let mut cursor = 0;
        for _ in 0..SCANS_MAX {
            let (next, found) = scan(&mut connection, &master, cursor, pattern).await?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    let lengths = stream::iter(keys).map(|key| chunk_length(connection.clone(), key)).buffer_unordered(IN_FLIGHT_MAX);
    let add = |(entries, bytes), length: Option<u64>| async move {
        Ok(length.map_or((entries, bytes), |length| (entries + 1, bytes + length)))
    };
    lengths.try_fold((0, 0), add).await
}

/// Nothing if it has just gone, or is no chunk.
async fn chunk_length(mut connection: Connection, key: Vec<u8>) -> RedisResult<Option<u64>> {
    let start: RedisResult<Vec<u8>> = connection.query(cmd("GETRANGE").arg(key).arg(0).arg(HEAD_BYTES_MAX - 1)).await;
    match start {
        Ok(start) => Ok(cached_chunk::head(&start).ok().map(|head| u64::from(head.length))),
        Err(error) if is_wrong_type(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each batch is a call of its own, so however much there is, none lasts.
pub async fn remove_all(link: &Link, pattern: &str) -> Result<(), PortError> {
    for master in link.call(|mut connection| async move { connection.masters().await }).await? {
        let mut cursor = 0;
        loop {
            cursor = link.call(|connection| remove_batch(connection, &master, cursor, pattern)).await?;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Returns where the next batch begins.
async fn remove_batch(mut connection: Connection, master: &Master, cursor: u64, pattern: &str) -> RedisResult<u64> {
    let (next, keys) = scan(&mut connection, master, cursor, pattern).await?;
    let unlink = |key: Vec<u8>| {
        let mut connection = connection.clone();
        async move { connection.query::<()>(cmd("UNLINK").arg(key)).await }
    };
    stream::iter(keys).map(unlink).buffer_unordered(IN_FLIGHT_MAX).try_collect::<()>().await?;
    Ok(next)
}

async fn scan(
    connection: &mut Connection,
    master: &Master,
    cursor: u64,
    pattern: &str,
) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    let scan = cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT).take();
    connection.query_at(master, scan).await
}
