use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::sleep;

/// Sends a signal; a process that is gone already stays gone.
pub fn send(name: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().expect("the program kill");
}

/// Stops a process until the time is over, even if the connection that asked for it is not there any more. Returns once
/// it stands still: after the signal, a thread may go on until the first of them has been given a processor to take it.
pub async fn freeze(pid: u32, time: Duration) {
    send("STOP", pid);
    let thawing = tokio::spawn(async move {
        sleep(time).await;
        send("CONT", pid);
    });
    while is_running(pid) && !thawing.is_finished() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Whether any thread of the process is neither stopped nor gone.
fn is_running(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).any(|stat| {
        // The state follows the name, which is in parentheses and may hold any.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['T', 't', 'Z', 'X']))
    })
}
