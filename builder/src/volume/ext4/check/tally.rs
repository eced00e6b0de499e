//! What is known of every inode, kept for the groups that have any in use.

use std::collections::BTreeMap;

/// What is known of one inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Whether it is in use.
    pub(super) used: bool,
    /// Its link count by its own word.
    pub(super) links: u16,
    /// The names that lead to it.
    pub(super) names: u32,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    per_group: u32,
    groups: BTreeMap<u32, Vec<Tally>>,
}

impl Tallies {
    /// Nothing is known of any inode.
    pub(super) fn new(per_group: u32) -> Self {
        Self {
            per_group,
            groups: BTreeMap::new(),
        }
    }

    /// The tally of inode `number`, from 1.
    pub(super) fn of(&mut self, number: u32) -> &mut Tally {
        let per_group = self.per_group.max(1);
        let (group, index) = ((number - 1) / per_group, (number - 1) % per_group);
        let tallies = self
            .groups
            .entry(group)
            .or_insert_with(|| vec![Tally::default(); per_group as usize]);
        &mut tallies[index as usize]
    }

    /// Whether the inode with this place in a group is in use.
    pub(super) fn is_used(&self, group: u32, index: u32) -> bool {
        self.groups
            .get(&group)
            .and_then(|tallies| tallies.get(index as usize))
            .is_some_and(|tally| tally.used)
    }

    /// All that is known, by number.
    pub(super) fn into_all(self) -> impl Iterator<Item = (u32, Tally)> {
        let per_group = self.per_group;
        self.groups.into_iter().flat_map(move |(group, tallies)| {
            let first = group * per_group + 1;
            (first..).zip(tallies)
        })
    }
}
