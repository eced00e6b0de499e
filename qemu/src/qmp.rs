//! A client of QEMU's machine protocol, as small as our needs: events in,
//! `quit` out.
//!
//! QEMU connects to us, not we to it. So a QEMU that was started by a nodekiln
//! that has died meanwhile finds nobody and ends at once, which closes the gap
//! before the kernel watches over it.

use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::error::{Error, Result};

/// Longest message; QEMU's own are a few hundred bytes.
const MESSAGE_LIMIT: u64 = 1 << 20;

/// What QEMU tells of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The guest reset itself.
    Reset,
    /// The guest powered off, or its kernel told of a panic.
    Shutdown,
    /// QEMU has closed the connection: it is ending.
    Closed,
    /// Anything else.
    Other,
}

pub(crate) struct Qmp {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// The message read so far: [`Qmp::event`] may be dropped half-way.
    message: Vec<u8>,
}

/// Listens on a socket for QEMU to connect to.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path)
        .map_err(|error| Error::io(format!("listen on {}", path.display()), error))
}

impl Qmp {
    /// Does the handshake: a greeting, and the answer that ends it.
    pub(crate) async fn open(stream: UnixStream) -> Result<Self> {
        let (reader, writer) = stream.into_split();
        let mut qmp = Self {
            reader: BufReader::new(reader),
            writer,
            message: Vec::new(),
        };
        let greeting = qmp.receive().await?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Control("it did not greet".to_owned()));
        }
        qmp.send("qmp_capabilities").await?;
        loop {
            let answer = qmp.receive().await?;
            if answer.get("return").is_some() {
                return Ok(qmp);
            }
            if let Some(error) = answer.get("error") {
                return Err(Error::Control(format!("it refused the handshake: {error}")));
            }
        }
    }

    /// Sends a command without arguments.
    pub(crate) async fn send(&mut self, command: &str) -> Result<()> {
        let message = format!("{{\"execute\":\"{command}\"}}\n");
        self.writer
            .write_all(message.as_bytes())
            .await
            .map_err(|error| Error::Control(format!("it broke its control socket: {error}")))
    }

    /// Waits for the next event. Safe to drop before it is ready.
    pub(crate) async fn event(&mut self) -> Event {
        let Ok(message) = self.receive().await else {
            return Event::Closed;
        };
        match message.get("event").and_then(serde_json::Value::as_str) {
            Some("RESET") => Event::Reset,
            Some("SHUTDOWN" | "GUEST_PANICKED") => Event::Shutdown,
            _ => Event::Other,
        }
    }

    async fn receive(&mut self) -> Result<serde_json::Value> {
        let left = MESSAGE_LIMIT - (self.message.len() as u64).min(MESSAGE_LIMIT);
        // `read_until` keeps what it has read in the buffer when it is dropped,
        // and goes on behind it.
        let mut limited = (&mut self.reader).take(left);
        limited
            .read_until(b'\n', &mut self.message)
            .await
            .map_err(|error| Error::Control(format!("it broke its control socket: {error}")))?;
        let message = std::mem::take(&mut self.message);
        if message.last() != Some(&b'\n') {
            return Err(Error::Control("it closed its control socket".to_owned()));
        }
        serde_json::from_slice(&message)
            .map_err(|error| Error::Control(format!("it sent what is not JSON: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(lines: &'static str) -> (Result<Qmp>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(lines.as_bytes()).await.expect("written");
        (Qmp::open(ours).await, theirs)
    }

    #[tokio::test]
    async fn shakes_hands_and_reads_events() {
        let (qmp, mut theirs) = answers(
            "{\"QMP\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": {}}\n{\"event\": \"RESET\"}\n",
        )
        .await;
        let mut qmp = qmp.expect("opened");
        assert_eq!(qmp.event().await, Event::Reset);
        qmp.send("quit").await.expect("sent");
        let mut sent = [0; 31];
        theirs.read_exact(&mut sent).await.expect("read");
        assert_eq!(&sent, b"{\"execute\":\"qmp_capabilities\"}\n");
        theirs.write_all(b"{\"event\":").await.expect("written");
        tokio::select! {
            biased;
            _ = qmp.event() => panic!("the message is not complete"),
            () = tokio::task::yield_now() => {}
        }
        theirs
            .write_all(b" \"SHUTDOWN\"}\n")
            .await
            .expect("written");
        assert_eq!(qmp.event().await, Event::Shutdown);
        drop(theirs);
        assert_eq!(qmp.event().await, Event::Closed);
    }

    #[tokio::test]
    async fn refuses_what_is_not_qemu() {
        for lines in ["hello\n", "{}\n", "{\"QMP\": {}}\n{\"error\": \"no\"}\n"] {
            let (qmp, _theirs) = answers(lines).await;
            assert!(qmp.is_err(), "{lines}");
        }
    }
}
