//! The answer.

use crate::{BLOCK, Malformed};

const MAGIC: &[u8; 8] = b"NKANSWER";
/// Longest text of an answer, in bytes.
const MAX_TEXT: usize = BLOCK - 8 - 32 - 1 - 4 - 8 - 4;

/// How far the agent came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It did everything, and the file system is unmounted.
    Done,
    /// It found or mounted no file system.
    Mount,
    /// It could not make the file system larger.
    Grow,
    /// An operation was refused.
    Operation,
    /// It could not bring everything to the disk.
    Finish,
}

/// What came of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// That of the header.
    pub identity: [u8; 32],
    /// How far it came.
    pub stage: Stage,
    /// Linux's number of the error; 0 when there is none.
    pub errno: i32,
    /// Operations that were done.
    pub done: u64,
    /// What it did when it failed.
    pub text: String,
}

impl Outcome {
    /// The block that holds it.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = MAGIC.to_vec();
        block.extend_from_slice(&self.identity);
        block.push(match self.stage {
            Stage::Done => 0,
            Stage::Mount => 1,
            Stage::Grow => 2,
            Stage::Operation => 3,
            Stage::Finish => 4,
        });
        block.extend_from_slice(&self.errno.to_le_bytes());
        block.extend_from_slice(&self.done.to_le_bytes());
        let text = self.text.as_bytes();
        let text = &text[..text.len().min(MAX_TEXT)];
        block.extend_from_slice(&(text.len() as u32).to_le_bytes());
        block.extend_from_slice(text);
        block.resize(BLOCK, 0);
        block
    }

    /// Reads the block.
    ///
    /// # Errors
    /// When it holds no answer.
    pub fn decode(block: &[u8]) -> Result<Self, Malformed> {
        let wrong = |text: &str| Malformed(format!("the agent's answer {text}"));
        let rest = block
            .strip_prefix(MAGIC)
            .ok_or_else(|| wrong("is missing"))?;
        let short = || wrong("is cut off");
        let (identity, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (stage, rest) = rest.split_first().ok_or_else(short)?;
        let (errno, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (done, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let text = rest
            .get(..u32::from_le_bytes(*length) as usize)
            .ok_or_else(short)?;
        Ok(Self {
            identity: *identity,
            stage: match stage {
                0 => Stage::Done,
                1 => Stage::Mount,
                2 => Stage::Grow,
                3 => Stage::Operation,
                4 => Stage::Finish,
                _ => return Err(wrong("is of no known kind")),
            },
            errno: i32::from_le_bytes(*errno),
            done: u64::from_le_bytes(*done),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        let outcome = Outcome {
            identity: [3; 32],
            stage: Stage::Operation,
            errno: 28,
            done: 17,
            text: "write /a".to_owned(),
        };
        let block = outcome.encode();
        assert_eq!(block.len(), BLOCK);
        assert_eq!(Outcome::decode(&block).expect("read"), outcome);
        assert!(Outcome::decode(&[0; BLOCK]).is_err());
        assert!(Outcome::decode(&block[..50]).is_err());
        let long = Outcome {
            text: "x".repeat(9000),
            ..outcome
        };
        assert_eq!(
            Outcome::decode(&long.encode()).expect("read").text.len(),
            MAX_TEXT
        );
    }
}
