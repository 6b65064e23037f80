//! Child processes that end with the value that holds them, and with the process that started them.
//! The benchmarks use this file too.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};

/// A child process, killed on drop.
pub struct Process(Child);

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a command whose process ends with this one, where the platform can do that.
pub fn tied(program: &str) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    } else {
        Command::new(program)
    }
}

/// Starts a tied command. One thread that lives as long as this process starts all of them, because
/// the kernel ends a tied child when the *thread* that started it ends.
pub fn start_tied(mut command: Command) -> Process {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, incoming) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in incoming {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    command.stdin(Stdio::null());
    let program = format!("{command:?}");
    let (answer, answered) = mpsc::channel();
    spawner.lock().unwrap().send((command, answer)).unwrap();
    let child = answered.recv().unwrap();
    Process(child.unwrap_or_else(|error| panic!("cannot start {program}: {error}")))
}
