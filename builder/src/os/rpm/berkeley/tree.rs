//! A database by order of its keys (`src/btree/` of Berkeley DB): the indexes of rpm.
//!
//! It is written anew as a whole: leaves full of keys in order, and levels of pages above
//! them that say from which key on a page is the one. The root is page 1.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::Problem;
use super::file::File;
use super::writer::Writer;
use super::{MAGIC_TREE, Meta, Take, kind, meta};
use crate::packages::Damage;

/// Kinds of item: in the page itself; on pages of its own. The bit of those that are
/// deleted.
const INLINE: u8 = 1;
const OFF_PAGE: u8 = 3;
const DELETED: u8 = 0x80;
/// Bytes of an item before its content: on a leaf; on a page above.
const LEAF_HEADER: usize = 3;
const BRANCH_HEADER: usize = 12;
/// Bytes of a reference to pages of its own.
const OFF_PAGE_SIZE: usize = 12;
/// Keys that a page has room for, at least (`DEFMINKEYPAGE`).
const KEYS_OF_PAGE: usize = 2;
/// Deepest tree: with two children a page it would hold more than any file.
const MAX_DEPTH: usize = 32;
const ROOT: usize = 1;

/// Hands `take` every key with its value, in order.
pub(super) fn each(bytes: &[u8], take: Take<'_>) -> Result<(), Problem> {
    let mut file = File::open(bytes)?;
    if file.magic != MAGIC_TREE {
        return Err("it is no tree of Berkeley DB");
    }
    let root = file.meta(meta::ROOT)? as usize;
    let mut last = None;
    walk(&mut file, root, 0, &mut |key, value| {
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err("its keys are not in order");
        }
        last = Some(key.clone());
        take(key, value)
    })
}

fn walk(file: &mut File<'_>, number: usize, depth: usize, take: Take<'_>) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err("its tree is too deep");
    }
    let page = file.page(number)?;
    let offsets = file.offsets(page)?;
    match page[kind::AT] {
        kind::TREE_BRANCH => {
            for at in offsets {
                let child = file.number(page, at + 4)? as usize;
                walk(file, child, depth + 1, take)?;
            }
            Ok(())
        }
        kind::TREE_LEAF => {
            let (pairs, rest) = offsets.as_chunks::<2>();
            if !rest.is_empty() {
                return Err("a key has no value");
            }
            for [key, value] in pairs {
                let is_deleted = |at: usize| page.get(at + 2).is_some_and(|of| of & DELETED != 0);
                if is_deleted(*key) || is_deleted(*value) {
                    continue;
                }
                let key = item(file, page, *key)?;
                let value = item(file, page, *value)?;
                take(key, value)?;
            }
            Ok(())
        }
        _ => Err("a page is none of a tree"),
    }
}

fn item(file: &mut File<'_>, page: &[u8], at: usize) -> Result<Vec<u8>, Problem> {
    let short = "an item is cut off";
    match page.get(at + 2) {
        Some(&INLINE) => {
            let length = file.short(page, at)?;
            let content = page
                .get(at + LEAF_HEADER..)
                .and_then(|rest| rest.get(..length));
            Ok(content.ok_or(short)?.to_vec())
        }
        Some(&OFF_PAGE) => {
            let first = file.number(page, at + 4)? as usize;
            let size = file.number(page, at + 8)? as usize;
            file.pieces(first, size)
        }
        _ => Err("an item is of no kind"),
    }
}

/// Longest content that stays in its page (`B_MINKEY_TO_OVFLSIZE`).
fn longest(page_size: usize) -> usize {
    Writer::room(page_size) / (2 * KEYS_OF_PAGE) - (LEAF_HEADER.next_multiple_of(4) + 2 + 4)
}

/// Bytes of an item with this content, without its place in the index.
fn size(header: usize, length: usize, longest: usize) -> usize {
    if length > longest && header == LEAF_HEADER {
        OFF_PAGE_SIZE
    } else if length > longest {
        header + OFF_PAGE_SIZE
    } else {
        (header + length).next_multiple_of(4)
    }
}

/// How many of the items of these sizes, in order, go on each page.
fn groups(sizes: &[usize], room: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut taken) = (0, 0);
    for (index, size) in sizes.iter().enumerate() {
        if taken + size > room && index > start {
            groups.push(start..index);
            (start, taken) = (index, 0);
        }
        taken += size;
    }
    groups.push(start..sizes.len());
    groups
}

/// A page, and from which key on it is the one.
struct Child {
    from: Vec<u8>,
    page: usize,
}

/// A tree with these keys and values.
///
/// # Errors
/// When it would be too large.
pub(super) fn write(like: &Meta, records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, Damage> {
    let mut writer = Writer::new(like.page_size, 2)?;
    let mut children = leaves(&mut writer, like.page_size, records)?;
    let mut level = 2;
    while children.len() > 1 {
        children = branches(&mut writer, like.page_size, &children, level)?;
        level += 1;
    }
    let mut meta_page = like.page(MAGIC_TREE, kind::TREE_META);
    let mut set = |at: usize, number: u32| {
        meta_page[at..at + 4].copy_from_slice(&number.to_le_bytes());
    };
    set(meta::KEYS_OF_PAGE, KEYS_OF_PAGE as u32);
    set(meta::PADDING, u32::from(b' '));
    set(meta::ROOT, ROOT as u32);
    Ok(writer.finish(&meta_page))
}

fn leaves(
    writer: &mut Writer,
    page_size: usize,
    records: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Vec<Child>, Damage> {
    let longest = longest(page_size);
    let records: Vec<(&Vec<u8>, &Vec<u8>)> = records.iter().collect();
    let item_size = |content: &[u8]| size(LEAF_HEADER, content.len(), longest) + 2;
    let sizes: Vec<usize> = records
        .iter()
        .map(|(key, value)| item_size(key) + item_size(value))
        .collect();
    let groups = groups(&sizes, Writer::room(page_size));
    let pages = places(writer, groups.len())?;
    let mut children = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let page = pages[index];
        let previous = index.checked_sub(1).map_or(0, |before| pages[before]);
        writer.start(page, kind::TREE_LEAF, 1, previous);
        if previous != 0 {
            writer.chain(previous, page);
        }
        for (key, value) in &records[group.clone()] {
            for content in [key, value] {
                let item = leaf_item(writer, content, longest)?;
                writer.put(page, &item);
            }
        }
        let from = match group.start.checked_sub(1) {
            Some(before) => between(records[before].0, records[group.start].0),
            None => Vec::new(),
        };
        children.push(Child { from, page });
    }
    Ok(children)
}

fn leaf_item(writer: &mut Writer, content: &[u8], longest: usize) -> Result<Vec<u8>, Damage> {
    if content.len() > longest {
        return off_page(writer, content);
    }
    let mut item = (content.len() as u16).to_le_bytes().to_vec();
    item.push(INLINE);
    item.extend_from_slice(content);
    item.resize(item.len().next_multiple_of(4), 0);
    Ok(item)
}

/// The item of a content on pages of its own.
fn off_page(writer: &mut Writer, content: &[u8]) -> Result<Vec<u8>, Damage> {
    let first = writer.pieces(content)?;
    let size = u32::try_from(content.len()).map_err(|_| "a value is too large")?;
    Ok([
        &[0, 0, OFF_PAGE, 0][..],
        &first.to_le_bytes(),
        &size.to_le_bytes(),
    ]
    .concat())
}

/// The shortest text that is behind `left` and not behind `right`.
fn between(left: &[u8], right: &[u8]) -> Vec<u8> {
    let common = left
        .iter()
        .zip(right)
        .take_while(|(one, other)| one == other);
    let length = common.count() + 1;
    right[..length.min(right.len())].to_vec()
}

/// Pages for a level; the root is page 1.
fn places(writer: &mut Writer, count: usize) -> Result<Vec<usize>, Damage> {
    if count == 1 {
        return Ok(vec![ROOT]);
    }
    (0..count).map(|_| writer.add()).collect()
}

fn branches(
    writer: &mut Writer,
    page_size: usize,
    children: &[Child],
    level: u8,
) -> Result<Vec<Child>, Damage> {
    let longest = longest(page_size);
    let item_size = |child: &Child| size(BRANCH_HEADER, child.from.len(), longest) + 2;
    let sizes: Vec<usize> = children.iter().map(item_size).collect();
    let groups = groups(&sizes, Writer::room(page_size));
    let pages = places(writer, groups.len())?;
    let mut parents = Vec::new();
    for (group, page) in groups.into_iter().zip(pages) {
        writer.start(page, kind::TREE_BRANCH, level, 0);
        for index in group.clone() {
            // What is before every other key needs none.
            let from: &[u8] = if index == group.start {
                &[]
            } else {
                &children[index].from
            };
            let (kind, from) = if from.len() > longest {
                (OFF_PAGE, off_page(writer, from)?)
            } else {
                (INLINE, from.to_vec())
            };
            let mut item = (from.len() as u16).to_le_bytes().to_vec();
            item.extend([kind, 0]);
            item.extend((children[index].page as u32).to_le_bytes());
            // Records below, which only trees count that find by number.
            item.extend([0; 4]);
            item.extend(from);
            item.resize(item.len().next_multiple_of(4), 0);
            writer.put(page, &item);
        }
        let from = children[group.start].from.clone();
        parents.push(Child { from, page });
    }
    Ok(parents)
}
