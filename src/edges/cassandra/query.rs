//! A statement and the promises it is run with.

use std::sync::Arc;

use scylla::{
    client::execution_profile::ExecutionProfileHandle,
    policies::retry::FallthroughRetryPolicy,
    statement::{Consistency, SerialConsistency, prepared::PreparedStatement},
};

/// Rows of one page. Blobs are read by key, one a request, so a page is small.
const PAGE_ROWS: i32 = 1_000;

#[derive(Clone, Copy)]
pub(super) struct Query {
    /// `$` stands for the keyspace.
    pub cql: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Sees every write that was confirmed.
    Read,
    /// Sees what conditional writes under way have come to; runs Paxos.
    SettledRead,
    /// Conditional. Nobody knows what a lost one did, so the driver never repeats it.
    Swap,
    /// Has the same effect however often it is done.
    Write,
    /// Of what never changes, and is verified: any copy will do.
    ReadAnyChunk,
    ReadChunk,
    WriteChunk,
}

impl Query {
    pub const fn new(kind: Kind, cql: &'static str) -> Self {
        Self { cql, kind }
    }

    pub const fn read(cql: &'static str) -> Self {
        Self::new(Kind::Read, cql)
    }

    pub const fn swap(cql: &'static str) -> Self {
        Self::new(Kind::Swap, cql)
    }

    pub const fn write(cql: &'static str) -> Self {
        Self::new(Kind::Write, cql)
    }
}

/// How long the two sorts of requests may take, and where they go.
pub(super) struct Profiles {
    pub requests: ExecutionProfileHandle,
    pub chunks: ExecutionProfileHandle,
}

impl Kind {
    pub fn set_up(self, statement: &mut PreparedStatement, profiles: &Profiles) {
        let is_chunk = matches!(self, Self::ReadAnyChunk | Self::ReadChunk | Self::WriteChunk);
        let profile = if is_chunk { &profiles.chunks } else { &profiles.requests };
        statement.set_execution_profile_handle(Some(profile.clone()));
        statement.set_consistency(match self {
            Self::SettledRead => Consistency::LocalSerial,
            Self::ReadAnyChunk => Consistency::LocalOne,
            Self::Read | Self::Swap | Self::Write | Self::ReadChunk | Self::WriteChunk => Consistency::LocalQuorum,
        });
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        statement.set_is_idempotent(self != Self::Swap);
        if self == Self::Swap {
            // The default policy repeats some requests whatever they are.
            statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
        }
        statement.set_page_size(PAGE_ROWS);
    }
}
