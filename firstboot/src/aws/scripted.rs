//! A network for tests that answers in the order that was written down, and insists
//! on the order of what it is asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::system::{Network, NetworkError, Request, Response};

type Answer = Result<Response, NetworkError>;

#[derive(Default)]
pub struct Scripted {
    script: RefCell<VecDeque<(String, Answer)>>,
    pub requests: RefCell<Vec<Request>>,
}

impl Scripted {
    /// The next request is this one, such as `GET http://host/path`, and gets this
    /// status and body.
    pub fn then(self, asked: &str, status: u16, body: &str) -> Self {
        self.answer(
            asked,
            Ok(Response {
                status,
                headers: Vec::new(),
                body: body.into(),
            }),
        )
    }

    /// The next request is this one and is not answered.
    pub fn silent(self, asked: &str) -> Self {
        self.answer(asked, Err(silence()))
    }

    pub fn answer(self, asked: &str, answer: Answer) -> Self {
        self.script.borrow_mut().push_back((asked.into(), answer));
        self
    }

    /// A header of the last answer that was written down.
    pub fn with(self, name: &str, value: &str) -> Self {
        if let Some((_, Ok(answer))) = self.script.borrow_mut().back_mut() {
            answer.headers.push((name.into(), value.into()));
        }
        self
    }

    /// Everything that was written down was asked for.
    pub fn assert_done(&self) {
        let left: Vec<String> = self.script.borrow().iter().map(|it| it.0.clone()).collect();
        assert!(left.is_empty(), "never asked: {left:?}");
    }
}

pub fn silence() -> NetworkError {
    NetworkError::Deadline {
        host: "host".into(),
        limit: Duration::from_secs(2),
    }
}

impl Network for Scripted {
    fn send(&self, request: &Request) -> Answer {
        let asked = format!("{} {}", request.method, request.url);
        let next = self.script.borrow_mut().pop_front();
        let (expected, answer) = next.unwrap_or_else(|| panic!("nothing is left for {asked}"));
        assert_eq!(asked, expected);
        self.requests.borrow_mut().push(request.clone());
        answer
    }

    fn lookup(&self, host: &str, _: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        panic!("{host} is looked up")
    }

    fn connect(&self, host: &str, _: u16, _: Duration) -> Result<(), NetworkError> {
        panic!("{host} is connected to")
    }
}
