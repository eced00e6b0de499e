//! Which blocks belong to something: a bit each.

/// See the module documentation.
#[derive(Debug)]
pub struct Claims {
    bits: Vec<u64>,
    blocks: u64,
}

impl Claims {
    /// Nothing is claimed of `blocks` blocks.
    pub fn new(blocks: u64) -> Self {
        Self {
            bits: vec![0; blocks.div_ceil(64) as usize],
            blocks,
        }
    }

    /// Claims blocks; `Ok(Some(block))` names the first that was claimed already,
    /// `Err` says that some do not exist.
    pub fn claim(&mut self, start: u64, count: u64) -> Result<Option<u64>, ()> {
        let end = start
            .checked_add(count)
            .filter(|end| *end <= self.blocks)
            .ok_or(())?;
        let mut twice = None;
        let mut block = start;
        while block < end {
            let (word, bit) = ((block / 64) as usize, block % 64);
            let here = (64 - bit).min(end - block);
            let mask = (u64::MAX >> (64 - here)) << bit;
            let taken = self.bits[word] & mask;
            if taken != 0 && twice.is_none() {
                twice = Some(block - bit + u64::from(taken.trailing_zeros()));
            }
            self.bits[word] |= mask;
            block += here;
        }
        Ok(twice)
    }

    /// Whether a block is claimed.
    pub fn has(&self, block: u64) -> bool {
        self.bits
            .get((block / 64) as usize)
            .is_some_and(|word| word >> (block % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_across_words_and_finds_what_is_taken() {
        let mut claims = Claims::new(200);
        assert_eq!(claims.claim(60, 80), Ok(None));
        assert!(!claims.has(59) && claims.has(60) && claims.has(139) && !claims.has(140));
        assert_eq!(claims.claim(0, 62), Ok(Some(60)));
        assert_eq!(claims.claim(139, 5), Ok(Some(139)));
        assert_eq!(claims.claim(190, 11), Err(()));
        assert_eq!(claims.claim(u64::MAX, 2), Err(()));
    }
}
