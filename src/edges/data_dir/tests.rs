//! One process a directory, and everybody can tell which.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::*;

/// Set for the process that [`the_lock_ends_with_its_process`] starts.
const HELD_BY_CHILD: &str = "KUBEML_TEST_HELD_DATA_DIR";

#[test]
fn a_second_holder_is_told_who_the_first_is() -> Result<(), DataDirError> {
    let root = tempfile::tempdir().expect("there is room");
    let path = root.path().join("a/b");
    let mut held = DataDir::open(&path)?;
    let since = held.holder.since.clone();
    let refused = |held: Result<DataDir, DataDirError>| held.err().map(|error| error.to_string());
    let (shown, pid) = (path.display(), process::id());
    let what_to_do = "stop it, or choose another one: [node] data_dir";
    assert_eq!(
        refused(DataDir::open(&path)),
        Some(format!("data directory {shown} is in use by kubeml (pid {pid}, since {since}); {what_to_do}"))
    );
    held.announce("http://127.0.0.1:5000")?;
    assert_eq!(
        refused(DataDir::open(&path)),
        Some(format!(
            "data directory {shown} is in use by kubeml (pid {pid}, http://127.0.0.1:5000, since {since}); {what_to_do}"
        ))
    );
    Ok(())
}

#[test]
fn the_holder_can_be_asked_for() -> Result<(), DataDirError> {
    let root = tempfile::tempdir().expect("there is room");
    assert_eq!(DataDir::holder(root.path()), None);
    let mut held = DataDir::open(root.path())?;
    held.announce("http://127.0.0.1:5000/with/a/rather/long/path")?;
    held.announce("http://[::1]:80")?;
    let holder = DataDir::holder(root.path()).expect("it is held");
    assert_eq!((holder.pid, holder.address.as_deref()), (process::id(), Some("http://[::1]:80")));
    drop(held);
    assert_eq!(DataDir::holder(root.path()), None);
    DataDir::open(root.path()).map(drop)
}

#[test]
fn asking_for_the_holder_turns_nobody_away() -> Result<(), DataDirError> {
    let root = tempfile::tempdir().expect("there is room");
    DataDir::open(root.path()).map(drop)?;
    let asking = thread::spawn({
        let path = root.path().to_owned();
        move || (0..2000).for_each(|_| _ = DataDir::holder(&path))
    });
    for _ in 0..50 {
        DataDir::open(root.path()).map(drop)?;
    }
    asking.join().expect("it does not panic");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_new_directory_is_for_its_owner_alone() -> Result<(), DataDirError> {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().expect("there is room");
    let path = root.path().join("kubeml");
    let _held = DataDir::open(&path)?;
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().expect("there is room");
    let file = root.path().join("file");
    File::create(&file).expect("it is writable");
    let error = DataDir::open(&file.join("data")).expect_err("a file has no directories");
    assert!(error.to_string().starts_with(&format!("cannot create {}", file.join("data").display())), "{error}");
}

#[test]
fn the_lock_ends_with_its_process() -> Result<(), DataDirError> {
    if let Ok(path) = env::var(HELD_BY_CHILD) {
        let _held = DataDir::open(Path::new(&path))?;
        println!("held");
        loop {
            thread::park();
        }
    }
    let root = tempfile::tempdir().expect("there is room");
    let this_test = thread::current().name().expect("tests have names").to_owned();
    let mut child = Command::new(env::current_exe().expect("a test has a file"))
        .args([&this_test, "--exact", "--nocapture"])
        .env(HELD_BY_CHILD, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("held")));
    assert_eq!(DataDir::holder(root.path()).map(|holder| holder.pid), Some(child.id()));
    assert!(DataDir::open(root.path()).is_err());
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(DataDir::holder(root.path()), None);
    DataDir::open(root.path()).map(drop)
}
