use std::{
    process::{Command, Stdio},
    time::Duration,
};

/// Sends a signal; a process that is gone already stays gone.
pub fn send(name: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().expect("the program kill");
}

/// Stops a process until the time is over, even if the connection that asked for it is not there any more.
pub fn freeze(pid: u32, time: Duration) {
    send("STOP", pid);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        send("CONT", pid);
    });
}
