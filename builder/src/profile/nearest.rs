//! Finds the word that was probably meant.

use std::cmp::min;

/// The candidate that differs least from `word`, if it is near enough to be
/// worth asking "did you mean": at most a third of the letters differ. Case,
/// `-` and `_` do not count. The first of several equal ones wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> {
        text.chars()
            .take(LONGEST)
            .filter(|letter| !matches!(letter, '-' | '_'))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let wanted = plain(word);
    candidates
        .into_iter()
        .map(|candidate| {
            let letters = plain(candidate);
            let limit = wanted.len().max(letters.len()).div_ceil(3);
            (distance(&wanted, &letters), limit, candidate)
        })
        .filter(|(distance, limit, _)| distance <= limit)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

/// Up to `count` candidates for a list, nearest first. With no near one it gives
/// the first `count` in their own order, since an error that lists what there is
/// helps more than one that does not.
pub fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let wanted: Vec<char> = word.chars().take(LONGEST).collect();
    let mut sorted: Vec<_> = candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().take(LONGEST).collect();
            let holds = candidate.contains(word) || word.contains(candidate);
            (!holds, distance(&wanted, &letters), candidate)
        })
        .collect();
    sorted.sort_by_key(|(apart, distance, _)| (*apart, *distance));
    sorted
        .into_iter()
        .take(count)
        .map(|(_, _, candidate)| candidate)
        .collect()
}

/// Letters that are compared: bounds the time for hostile words.
const LONGEST: usize = 64;

/// Edits (insert, remove, replace, swap of neighbours) between two words: the
/// restricted Damerau-Levenshtein distance.
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1; width];
        for (column, other) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut cost = min(replaced, min(above[column + 1], current[column]) + 1);
            let swapped =
                row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other;
            if swapped {
                cost = min(cost, before[column - 1] + 1);
            }
            current[column + 1] = cost;
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_about_near_words_only() {
        let keys = ["architecture", "base", "kubernetes", "diskSize", "outputs"];
        assert_eq!(nearest("kubernets", keys), Some("kubernetes"));
        assert_eq!(nearest("disk_size", keys), Some("diskSize"));
        assert_eq!(nearest("ouptuts", keys), Some("outputs"));
        assert_eq!(nearest("bsae", keys), Some("base"));
        assert_eq!(nearest("flavour", keys), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn lists_what_there_is() {
        let members = ["LICENSE", "bin/kubelet", "bin/kubectl"];
        assert_eq!(closest("kubelet", members, 1), ["bin/kubelet"]);
        assert_eq!(closest("zzz", members, 5).len(), 3);
    }

    #[test]
    fn counts_edits() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        for (left, right, edits) in [("", "abc", 3), ("abc", "acb", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(&letters(left), &letters(right)), edits);
            assert_eq!(distance(&letters(right), &letters(left)), edits);
        }
    }
}
