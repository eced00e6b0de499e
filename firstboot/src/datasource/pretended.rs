//! A machine and what is around it, made of values.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{BlockDevice, FileContent, Machine, ReadAt};
use crate::system::{
    Clock, Ended, Error, Network, NetworkError, Programs, Request, Response, Task,
};

/// Files, devices and the kernel command line.
#[derive(Default)]
pub struct Fake {
    pub files: BTreeMap<String, Vec<u8>>,
    pub distrusted: Vec<&'static str>,
    pub devices: Vec<(&'static str, bool, Vec<u8>)>,
    pub command_line: &'static str,
}

impl Fake {
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
        self
    }

    /// A field of the firmware's tables.
    pub fn smbios(self, name: &str, value: &str) -> Self {
        self.with(&format!("/sys/class/dmi/id/{name}"), &format!("{value}\n"))
    }

    pub fn device(mut self, name: &'static str, image: &[u8]) -> Self {
        let is_partition = name.ends_with("p1");
        self.devices.push((name, is_partition, image.to_vec()));
        self
    }
}

impl Machine for Fake {
    fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        let device = |(name, is_partition, image): &(&str, bool, Vec<u8>)| BlockDevice {
            name: (*name).to_owned(),
            size: image.len() as u64,
            is_partition: *is_partition,
        };
        Ok(self.devices.iter().map(device).collect())
    }

    fn open_device(&self, name: &str, _: Duration) -> io::Result<Box<dyn ReadAt>> {
        let found = self.devices.iter().find(|(device, _, _)| *device == name);
        let image = found
            .map(|(_, _, image)| image.clone())
            .filter(|image| !image.is_empty());
        Ok(Box::new(image.ok_or(io::ErrorKind::NotFound)?))
    }

    fn read_file(&self, path: &Path, limit: u64) -> io::Result<FileContent> {
        let path = path.to_str().unwrap();
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(FileContent {
            bytes,
            is_trusted: !self.distrusted.contains(&path),
        })
    }

    fn list_folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", path.to_str().unwrap());
        let names: Vec<String> = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect();
        if names.is_empty() {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(names)
        }
    }

    fn kernel_command_line(&self) -> io::Result<String> {
        Ok(self.command_line.to_owned())
    }
}

type Answered = Result<Response, NetworkError>;

/// Network, programs and time. What takes time lets it pass at once.
#[derive(Default)]
pub struct Around {
    /// By method and URL; the last one is given again and again.
    answers: RefCell<BTreeMap<String, VecDeque<Answered>>>,
    pub requests: RefCell<Vec<Request>>,
    /// By command line.
    programs: BTreeMap<String, Ended>,
    /// Programs that never end.
    pub hanging: Vec<&'static str>,
    pub commands: RefCell<Vec<Task>>,
    pub time: Cell<Duration>,
}

impl Around {
    /// Has a request answered, after those that were given before.
    pub fn answer(self, asked: &str, answer: Answered) -> Self {
        let asked = asked.to_owned();
        self.answers
            .borrow_mut()
            .entry(asked)
            .or_default()
            .push_back(answer);
        self
    }

    pub fn body(self, asked: &str, status: u16, body: &str) -> Self {
        self.answer(asked, Ok(response(status, body)))
    }

    pub fn program(mut self, line: &str, success: bool, output: &str, errors: &str) -> Self {
        let ended = Ended {
            success,
            output: output.into(),
            errors: errors.into(),
        };
        self.programs.insert(line.to_owned(), ended);
        self
    }

    /// Method and URL of all requests.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.requests.borrow();
        requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.url))
            .collect()
    }
}

pub fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    }
}

pub fn redirect(status: u16, location: &str) -> Answered {
    Ok(Response {
        headers: vec![("location".into(), location.into())],
        ..response(status, "")
    })
}

/// No answer within the time; the time passes.
pub fn silence() -> Answered {
    Err(NetworkError::Deadline {
        host: "host".into(),
        limit: Duration::from_secs(1),
    })
}

impl Network for Around {
    fn send(&self, request: &Request) -> Answered {
        self.requests.borrow_mut().push(request.clone());
        let asked = format!("{} {}", request.method, request.url);
        let mut answers = self.answers.borrow_mut();
        let answer = match answers.get_mut(&asked) {
            Some(queue) if queue.len() > 1 => queue.pop_front(),
            Some(queue) => queue.front().cloned(),
            None => None,
        };
        let answer = answer.unwrap_or_else(|| {
            Err(NetworkError::Connection {
                host: "host".into(),
                reason: "nobody listens".into(),
            })
        });
        match &answer {
            Err(NetworkError::Deadline { .. }) => self.pause(request.limit),
            Ok(response) if response.body.len() > request.most => {
                return Err(NetworkError::TooLarge {
                    host: "host".into(),
                    most: request.most,
                });
            }
            _ => {}
        }
        answer
    }

    fn lookup(&self, _: &str, _: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        unreachable!("no source looks names up by itself")
    }

    fn connect(&self, _: &str, _: u16, _: Duration) -> Result<(), NetworkError> {
        unreachable!("no source opens connections by itself")
    }
}

impl Programs for Around {
    fn run(&self, task: &Task) -> Result<Ended, Error> {
        self.commands.borrow_mut().push(task.clone());
        if self.hanging.contains(&task.program.as_str()) {
            self.pause(task.limit);
            return Err(Error::Deadline {
                program: task.program.clone(),
                limit: task.limit,
            });
        }
        let found = self.programs.get(&task.line()).cloned();
        let mut ended = found.ok_or_else(|| Error::Program {
            program: task.program.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        ended.output.truncate(task.most);
        Ok(ended)
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

impl Clock for Around {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        self.time.get()
    }

    fn pause(&self, time: Duration) {
        self.time.set(self.time.get() + time);
    }
}
