//! Plans, what is derived from them, and what is found in a directory. No server is started here.

use std::collections::HashSet;

use super::*;

fn at(plan: Plan) -> Services {
    Services::at(Path::new("/nowhere"), plan).unwrap()
}

#[test]
fn a_single_set_is_where_everybody_looks_for_it() {
    assert_eq!(
        at(Plan::single(Ports::standard())).exports(),
        "export KUBEML__STORE__KIND=cassandra\n\
         export KUBEML__STORE__CASSANDRA__CONTACT_POINTS=127.0.0.1:9042\n\
         export KUBEML__STORE__CASSANDRA__REPLICATION_FACTOR=1\n\
         export KUBEML__BUS__KIND=kafka\n\
         export KUBEML__BUS__KAFKA__BROKERS=127.0.0.1:9092\n\
         export KUBEML__CACHE__KIND=redis\n\
         export KUBEML__CACHE__REDIS__URLS=redis://127.0.0.1:6379\n"
    );
}

#[test]
fn of_three_each_is_named() {
    let environment = at(Plan::highly_available(Ports::standard())).environment();
    let value = |name: &str| environment.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str());
    assert_eq!(value("KUBEML__STORE__CASSANDRA__CONTACT_POINTS"), Some("127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042"));
    assert_eq!(value("KUBEML__STORE__CASSANDRA__REPLICATION_FACTOR"), Some("3"));
    assert_eq!(value("KUBEML__BUS__KAFKA__BROKERS"), Some("127.0.0.1:9092,127.0.0.1:9192,127.0.0.1:9292"));
    assert_eq!(value("KUBEML__CACHE__KIND"), Some("redis-cluster"));
    assert_eq!(value("KUBEML__CACHE__REDIS__URLS").map(|urls| urls.split(',').count()), Some(6));
}

#[test]
fn what_is_not_there_is_not_configured() {
    let plan = Plan { kafka: 0, cassandra: 0, ..Plan::single(Ports::for_tests()) };
    let names: Vec<_> = at(plan).environment().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["KUBEML__CACHE__KIND", "KUBEML__CACHE__REDIS__URLS"]);
}

#[test]
fn no_two_servers_share_a_port_nor_do_people_and_tests() {
    let mut taken = HashSet::new();
    for ports in [Ports::standard(), Ports::for_tests()] {
        let cluster = Plan::highly_available(ports);
        let single_redis = Plan { kafka: 0, cassandra: 0, ..Plan::single(ports) };
        for address in cluster.listening().into_iter().chain(single_redis.listening()) {
            assert!(taken.insert(address), "{address} twice");
            assert!(address.ip().is_loopback() && address.port() < 32_768, "{address}");
        }
    }
}

#[test]
fn ports_for_tests_are_chosen_past_those_that_are_taken() {
    let plan = Plan { kafka: 0, cassandra: 0, ..Plan::single(Ports::for_tests()) };
    let chosen = plan.on_free_test_ports().unwrap();
    let _taken = std::net::TcpListener::bind(chosen.address(Kind::Redis, 0)).unwrap();
    assert_ne!(plan.on_free_test_ports().unwrap(), chosen);
}

#[test]
fn a_plan_is_read_as_written_and_garbage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Services::recorded(dir.path()).unwrap(), None);
    assert!(Services::open(dir.path()).is_err());
    let path = dir.path().join(RECORD);
    let plan = Plan::highly_available(Ports::for_tests());
    write_whole(&path, &serde_json::to_vec(&plan).unwrap()).unwrap();
    assert_eq!(Services::recorded(dir.path()).unwrap(), Some(plan));

    let vast = serde_json::to_string(&Plan { kafka: 60_000, ..plan }).unwrap();
    for garbage in ["", "[]", "{\"kafka\":1}", "\u{0}", vast.as_str()] {
        fs::write(&path, garbage).unwrap();
        let error = Services::recorded(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is no plan"), "{garbage:?}: {error}");
    }
}

#[test]
fn a_server_that_was_never_started_is_down_and_stopping_it_is_no_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let services = Services::at(dir.path(), Plan::single(Ports::for_tests())).unwrap();
    let server = services.server("redis-1").unwrap();
    assert_eq!((server.status(), server.pid()), (Status::Down, None));
    server.kill().unwrap();
    server.terminate().unwrap();
    assert!(server.pause().unwrap_err().to_string().contains("redis-1 is down"));
    assert!(services.server("redis-2").is_err());
    assert!(services.table().contains("down"), "{}", services.table());
}

#[test]
fn a_directory_of_another_plan_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let there = Plan { kafka: 0, cassandra: 0, ..Plan::single(Ports::for_tests()) };
    write_whole(&dir.path().join(RECORD), &serde_json::to_vec(&there).unwrap()).unwrap();
    let other = Plan { redis: RedisPlan::Cluster, ..there };
    let error = Services::up(dir.path(), &other, &|_| {}).err().unwrap().to_string();
    assert!(error.contains("--redis single"), "{error}");
    assert_eq!(Services::recorded(dir.path()).unwrap(), Some(there));
}

#[test]
fn the_last_lines_are_the_last() {
    assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
    assert_eq!(last_lines("a", 2), "a");
    assert_eq!(last_lines("", 2), "");
}
