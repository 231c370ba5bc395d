//! A service manager: it hears what the daemon says of itself, passes sockets to
//! it, and keeps a descriptor from one process to the next.

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tempfile::TempDir;

use super::config::Config;
use super::daemon::Daemon;
use super::inbox::Inbox;
use super::launch::{Launch, Outcome};
use super::wait::wait_for;

/// What the daemon calls its image, with the number of defects behind it.
const IMAGE: &str = "sidecarbon-queue";

/// What it calls its account.
const ACCOUNT: &str = "sidecarbon-account";

/// Above what the shell uses itself.
const SPARE_NUMBERS: i32 = 100;

/// Ends the manager's ear.
const OVER: &[u8] = b"OVER";

/// Has it say that it has heard all that was said before.
const CATCH_UP: &[u8] = b"CATCH UP";

/// The descriptors in its store: room for two, as in the unit.
#[derive(Default)]
struct Kept {
    image: Option<(String, File)>,
    account: Option<File>,
}

/// A manager as systemd is one.
pub struct Manager {
    directory: TempDir,
    /// What it is told, one line an assignment, those of one datagram joined by
    /// a blank.
    pub told: Arc<Inbox>,
    kept: Arc<Mutex<Kept>>,
    ear: Option<JoinHandle<()>>,
    caught_up: Mutex<mpsc::Receiver<()>>,
    sockets: Vec<OwnedFd>,
    environment: Vec<(&'static str, String)>,
}

impl Manager {
    /// A manager with a descriptor store, as systemd 254 tells it.
    pub fn with_store() -> Self {
        Self::new().env("FDSTORE", "2")
    }

    /// A manager that says nothing of a store.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sidecarbon-manager-")
            .tempdir()
            .expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        let told = Arc::new(Inbox::default());
        let kept = Arc::default();
        let (catches_up, caught_up) = mpsc::channel();
        let ear = {
            let (told, kept) = (Arc::clone(&told), Arc::clone(&kept));
            thread::spawn(move || listen(&socket, &told, &kept, &catches_up))
        };
        Self {
            directory,
            told,
            kept,
            ear: Some(ear),
            caught_up: Mutex::new(caught_up),
            sockets: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The same, with a variable for the daemon.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// The same, with a socket that it has bound.
    #[must_use]
    pub fn with_socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push(socket.into());
        self
    }

    /// Starts the daemon, with all sockets and whatever is kept.
    #[track_caller]
    pub fn start(&self, config: &Config) -> Daemon {
        self.launch(config, Launch::start)
    }

    /// Runs the daemon to an end that it comes to by itself.
    #[track_caller]
    pub fn run(&self, config: &Config) -> Outcome {
        self.launch(config, Launch::run)
    }

    #[track_caller]
    fn launch<T>(&self, config: &Config, go: impl FnOnce(Launch) -> T) -> T {
        self.catch_up();
        let kept = self.lock();
        let sockets = self.sockets.iter().map(AsFd::as_fd);
        let image = kept.image.iter().map(|(_, file)| file.as_fd());
        let passed: Vec<OwnedFd> = sockets
            .chain(image)
            .chain(kept.account.iter().map(AsFd::as_fd))
            .map(|passed| fcntl_dupfd_cloexec(passed, SPARE_NUMBERS).expect("a descriptor"))
            .collect();
        let mut names = vec!["sidecarbon.socket"; self.sockets.len()];
        names.extend(kept.image.iter().map(|(name, _)| name.as_str()));
        names.extend(kept.account.iter().map(|_| ACCOUNT));
        // A shell puts them in their places: its id becomes the daemon's.
        let mut script = String::from("export LISTEN_PID=$$;");
        for (place, passed) in passed.iter().enumerate() {
            // Others that are started meanwhile may have them too: no harm.
            fcntl_setfd(passed, FdFlags::empty()).expect("a descriptor");
            let number = passed.as_raw_fd();
            script += &format!("exec {}<&{number} {number}<&-;", place + 3);
        }
        script += "exec \"$0\" \"$@\"";
        let shell = ["bash", "-c", &script].map(str::to_owned);
        let mut launch = Launch::by(&shell, config)
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        for (name, value) in &self.environment {
            launch = launch.env(name, value);
        }
        drop(kept);
        go(launch)
    }

    /// Waits until it keeps so many images, one at most.
    #[track_caller]
    pub fn wait_kept(&self, count: usize) {
        wait_for(&format!("{count} images to be kept"), || {
            self.lock().image.iter().count() == count
        });
    }

    /// What the image that it keeps is called.
    #[track_caller]
    pub fn name_of_image(&self) -> String {
        self.catch_up();
        self.lock().image.as_ref().expect("an image").0.clone()
    }

    /// Waits until it keeps an account.
    #[track_caller]
    pub fn wait_account(&self) {
        wait_for("an account to be kept", || self.lock().account.is_some());
    }

    /// The image that it keeps.
    #[track_caller]
    pub fn image(&self) -> Vec<u8> {
        let mut kept = self.lock();
        let (_, file) = kept.image.as_mut().expect("an image");
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_end(&mut bytes).expect("a file");
        bytes
    }

    /// Keeps another image instead.
    pub fn replace_image(&self, bytes: &[u8]) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for an image");
        self.lock().image = Some((IMAGE.to_owned(), file));
    }

    /// Whether the image can be changed by anybody.
    #[track_caller]
    pub fn image_is_sealed(&self) -> bool {
        let kept = self.lock();
        let (_, file) = kept.image.as_ref().expect("an image");
        let mut file = file.try_clone().expect("a descriptor");
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.write_all(b"x").is_err()
    }

    /// As systemd, it hears what a process has said before that process is gone.
    #[track_caller]
    fn catch_up(&self) {
        let caught_up = self.caught_up.lock();
        let caught_up = caught_up.unwrap_or_else(PoisonError::into_inner);
        let socket = UnixDatagram::unbound().expect("a socket");
        let ear = self.directory.path().join("notify");
        socket.send_to(CATCH_UP, ear).expect("an ear");
        caught_up.recv().expect("an ear");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let socket = UnixDatagram::unbound().expect("a socket");
        // A socket that is gone has no ear.
        let _ = socket.send_to(OVER, self.directory.path().join("notify"));
        if let Some(ear) = self.ear.take() {
            ear.join().expect("a thread that hears");
        }
    }
}

/// Takes datagrams as systemd does.
fn listen(socket: &UnixDatagram, told: &Inbox, kept: &Mutex<Kept>, catches_up: &mpsc::Sender<()>) {
    let mut buffer = [0; 4096];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(socket, &mut bytes, &mut with, RecvFlags::CMSG_CLOEXEC)
            .expect("an open socket");
        assert_eq!(received.flags & ReturnFlags::TRUNC, ReturnFlags::empty());
        let length = received.bytes;
        let files: Vec<File> = with
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .map(File::from)
            .collect();
        if &buffer[..length] == OVER {
            return;
        }
        if &buffer[..length] == CATCH_UP {
            catches_up.send(()).expect("a manager");
            continue;
        }
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        if let Some(name) = name {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let mut files = files.into_iter();
            if lines.contains(&"FDSTOREREMOVE=1") {
                kept.image.take_if(|(kept, _)| kept == name);
            } else if name == ACCOUNT {
                kept.account = files.next();
            } else if name.starts_with(IMAGE) && kept.image.is_none() {
                kept.image = files.next().map(|file| (name.to_owned(), file));
            }
        }
        told.push([lines.join(" ")]);
    }
}
