//! What `kubeml admin init` makes, and what is said without it.

use std::{sync::Mutex, time::Duration};

use kubeml::edges::cassandra::{CassandraConfig, Session, init};
use kubeml_actors::ports::PortError;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::keyspace::{Keyspace, config};

async fn why_unusable(config: &CassandraConfig) -> String {
    match Session::open(config.clone()).replication_factor().await {
        Err(PortError::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_keyspace_says_what_to_run() {
    let config = config("test_of_nobody");
    let why = why_unusable(&config).await;
    assert!(why.starts_with(&config.place()) && why.ends_with("run `kubeml admin init`"), "{why}");
}

#[tokio::test]
async fn missing_tables_say_what_to_run() {
    let keyspace = Keyspace::bare().await;
    let why = why_unusable(&keyspace.config).await;
    assert!(why.ends_with("run `kubeml admin init`"), "{why}");
    init(&keyspace.config, &drop).await.expect("the tables are made");
    assert_eq!(keyspace.node().session.replication_factor().await, Ok(1));
}

#[tokio::test]
async fn tables_of_another_format_are_told_apart() {
    let keyspace = Keyspace::take().await;
    for (version, what) in [(1, "older than 2; run `kubeml admin init`"), (3, "or a newer one")] {
        keyspace.run("INSERT INTO $.schema_version (id, version) VALUES (0, ?)", (version,)).await;
        let why = why_unusable(&keyspace.config).await;
        assert!(why.contains(&format!("the tables are in format {version}")) && why.ends_with(what), "{why}");
    }
    assert!(matches!(init(&keyspace.config, &drop).await, Err(PortError::Rejected(_))));
    keyspace.run("INSERT INTO $.schema_version (id, version) VALUES (0, 2)", ()).await;
}

async fn done(config: &CassandraConfig) -> Vec<String> {
    let lines = Mutex::new(Vec::new());
    let say = |line| lines.lock().expect("nobody panics").push(line);
    init(config, &say).await.expect("it is there");
    lines.into_inner().expect("nobody panics")
}

#[tokio::test]
async fn a_table_that_is_gone_is_made_again() {
    let keyspace = Keyspace::bare().await;
    assert_eq!(done(&keyspace.config).await[1], "13 tables of format 2 made");
    keyspace.run("DROP TABLE $.node", ()).await;
    assert_eq!(done(&keyspace.config).await[1], "1 of 13 tables of format 2 were missing, and are made");
    keyspace.run("SELECT * FROM $.node", ()).await;
}

#[tokio::test]
async fn initialising_again_changes_nothing() {
    let keyspace = Keyspace::take().await;
    assert_eq!(done(&keyspace.config).await[1], "tables of format 2 are there");
    let wanted = CassandraConfig { replication_factor: 3, ..keyspace.config.clone() };
    let done = done(&wanted).await.join("\n");
    assert!(done.contains("with 1 copies") && done.contains("ALTER KEYSPACE") && done.contains("nodetool"), "{done}");
    assert!(done.contains("1 nodes for 3 copies: nothing can be written"), "{done}");
}

#[tokio::test]
async fn more_copies_than_nodes_are_said_to_be_too_many() {
    let one = config(&format!("test_{}", uuid::Uuid::new_v4().simple()));
    let two = CassandraConfig { replication_factor: 2, ..one };
    let Err(PortError::Unavailable(why)) = init(&two, &drop).await else { panic!("there is one node") };
    assert!(why.starts_with(&two.place()) && why.contains("required: 2, alive: 1"), "{why}");
    assert!(why.contains("has 1 nodes for 2 copies: nothing can be written until there are more"), "{why}");
    // Whoever comes all the same is told by the database.
    assert!(why_unusable(&two).await.contains("required: 2, alive: 1"));
}

#[tokio::test]
async fn a_database_that_is_down_is_named_and_found_when_it_comes() {
    let keyspace = Keyspace::take().await;
    let database = keyspace.config.addresses().remove(0);
    // The driver expects all nodes at the same port as the contact point, so the address must be the database's own.
    let host = database.rsplit_once(':').expect("it has a port").0;
    let away = TcpListener::bind(format!("{host}:0")).await.expect("there are ports");
    let address = away.local_addr().expect("it is bound");
    drop(away);
    let down = CassandraConfig { contact_points: vec![address.to_string()], ..keyspace.config.clone() };
    let session = Session::open(down.clone());
    let Err(PortError::Unavailable(why)) = session.replication_factor().await else { panic!("nobody is there") };
    assert!(why.starts_with(&format!("cassandra at {address}, keyspace {}: ", down.keyspace)), "{why}");
    let there = tokio::spawn(forward(TcpListener::bind(address).await.expect("it was free"), database));
    let deadline = Instant::now() + Duration::from_secs(60);
    while session.replication_factor().await.is_err() {
        assert!(Instant::now() < deadline, "it is not found");
        sleep(Duration::from_millis(50)).await;
    }
    there.abort();
}

/// Connections to the listener end at the database.
async fn forward(listener: TcpListener, database: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let database = database.clone();
        tokio::spawn(async move {
            let mut far = TcpStream::connect(database).await?;
            copy_bidirectional(&mut near, &mut far).await
        });
    }
}
