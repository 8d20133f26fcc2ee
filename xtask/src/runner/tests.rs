//! A budget ends whatever was started.

use std::{io::Read, sync::mpsc};

use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn after(limit: Duration) -> Instant {
    Instant::now() + limit
}

#[test]
fn a_program_that_ends_in_time_gives_its_status() {
    let status = end(&mut shell("exit 3"), after(Duration::from_secs(60))).unwrap();
    assert_eq!(status.and_then(|status| status.code()), Some(3));
}

#[test]
fn a_program_over_its_deadline_is_killed_with_its_children() {
    let (mut output, input) = std::io::pipe().unwrap();
    let mut command = shell("sleep 60 & wait");
    command.stdout(input);
    let ended = end(&mut command, after(Duration::from_millis(200))).unwrap();
    assert_eq!(ended, None);

    drop(command);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(output.read(&mut [0])));
    let end_of_output =
        receiver.recv_timeout(Duration::from_secs(30)).expect("whoever could write to the pipe is dead");
    assert_eq!(end_of_output.unwrap(), 0);
}

#[test]
fn a_missing_program_is_no_success() {
    let runner = Runner::new(Path::new("."), Duration::from_secs(60));
    assert!(!runner.succeeds("no-such-program", &[]));
    assert!(runner.succeeds("true", &[]));
    assert!(!runner.succeeds("false", &[]));
}

#[test]
fn a_failure_names_the_command_and_its_status() {
    let runner = Runner::new(Path::new("."), Duration::from_secs(60));
    let error = runner.cargo(&["no-such-command"]).unwrap_err();
    assert!(error.to_string().starts_with("cargo no-such-command: exit status: "), "{error}");
}
