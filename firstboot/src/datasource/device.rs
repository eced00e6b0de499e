//! A block device that is read with a time limit.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::ReadAt;

/// A place in a device and a number of bytes.
type Question = (u64, usize);

/// A device that a thread of its own opens and reads: a broken disk keeps whoever
/// reads it waiting for minutes, and nothing can call a read back. A thread that
/// waits for ever ends with the program.
pub(super) struct Device {
    questions: Sender<Question>,
    answers: Receiver<io::Result<Vec<u8>>>,
    deadline: Instant,
    limit: Duration,
}

impl Device {
    /// Opens a device that has `limit` for that and for everything that is read.
    pub fn open(path: PathBuf, limit: Duration) -> io::Result<Self> {
        const STACK: usize = 64 << 10;
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || serve(path, &asked, &answer))?;
        let device = Self {
            questions,
            answers,
            deadline: Instant::now() + limit,
            limit,
        };
        device.answer()?;
        Ok(device)
    }

    fn answer(&self) -> io::Result<Vec<u8>> {
        let late = || {
            let text = format!("it did not answer within {} s", self.limit.as_secs_f32());
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        // An answer that comes later still must not be taken for another's.
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        self.answers.recv_timeout(left).map_err(|_| late())?
    }
}

impl ReadAt for Device {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.questions
            .send((offset, buffer.len()))
            .map_err(|_| io::Error::other("it is not read any more"))?;
        buffer.copy_from_slice(&self.answer()?);
        Ok(())
    }
}

/// Opens, then reads until nobody asks any more. An answer has the length that was
/// asked for.
fn serve(path: PathBuf, asked: &Receiver<Question>, answer: &Sender<io::Result<Vec<u8>>>) {
    let (file, opened) = match File::open(path) {
        Ok(file) => (Some(file), Ok(Vec::new())),
        Err(error) => (None, Err(error)),
    };
    // Whoever asked may have given up: then there is nobody to answer.
    let mut is_wanted = answer.send(opened).is_ok();
    while let (true, Some(file), Ok((offset, length))) = (is_wanted, &file, asked.recv()) {
        let mut bytes = vec![0; length];
        let read = file.read_at(offset, &mut bytes).map(|()| bytes);
        is_wanted = answer.send(read).is_ok();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_answer_is_given_up_and_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("sda");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        // To open a pipe waits for a writer.
        let error = Device::open(pipe, Duration::from_millis(50)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let image = folder.path().join("sdb");
        std::fs::write(&image, b"0123456789").unwrap();
        let device = Device::open(image.clone(), Duration::from_secs(60)).unwrap();
        let mut bytes = [0; 3];
        device.read_at(4, &mut bytes).unwrap();
        assert_eq!(&bytes, b"456");
        let beyond = device.read_at(8, &mut bytes).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        let over = Device {
            deadline: Instant::now(),
            ..Device::open(image, Duration::from_secs(60)).unwrap()
        };
        for _ in 0..2 {
            let error = over.read_at(0, &mut bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        let missing = Device::open(folder.path().join("none"), Duration::from_secs(60));
        assert_eq!(missing.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
