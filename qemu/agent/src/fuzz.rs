//! One door to all that is read here, for fuzzing.

use crate::{Header, Operation, Outcome};

/// Reads `input` as each of them; what is taken reads back the same.
///
/// # Panics
/// When it does not.
pub fn fuzz(input: &[u8]) {
    if let Ok(header) = Header::decode(input) {
        assert_eq!(
            Header::decode(&header.encode()).ok().as_ref(),
            Some(&header)
        );
    }
    if let Ok(outcome) = Outcome::decode(input) {
        let again = Outcome::decode(&outcome.encode()).expect("an answer that was taken");
        assert_eq!((again.stage, again.done), (outcome.stage, outcome.done));
    }
    let mut source = input;
    while let Ok(operation) = Operation::read(&mut source) {
        assert!(!operation.doing().is_empty());
        let mut written = Vec::new();
        operation.write(&mut written).expect("memory takes all");
        let again = Operation::read(&mut &written[..]).expect("an operation that was taken");
        assert_eq!(again, operation);
    }
}
