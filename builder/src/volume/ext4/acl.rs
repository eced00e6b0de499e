//! Access control lists: ext4 keeps them shorter than programs see them.
//!
//! Programs give and get `system.posix_acl_*` as version 2, eight bytes an
//! entry (Linux, `include/uapi/linux/posix_acl_xattr.h`); ext4 stores version 1,
//! where only entries for a named user or group carry an identifier
//! (`fs/ext4/acl.h`).

const STORED: u32 = 1;
const SHOWN: u32 = 2;
const NO_IDENTIFIER: u32 = u32::MAX;

fn names_somebody(tag: u16) -> bool {
    matches!(tag, 0x02 | 0x08)
}

/// Whether the attribute `name` is such a list.
pub fn is_list(name: &str) -> bool {
    matches!(name, "system.posix_acl_access" | "system.posix_acl_default")
}

/// What programs see of a stored list; `None` when it is malformed.
pub fn shown(stored: &[u8]) -> Option<Vec<u8>> {
    let (version, mut rest) = stored.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != STORED {
        return None;
    }
    let mut list = SHOWN.to_le_bytes().to_vec();
    while let Some((head, tail)) = rest.split_first_chunk::<4>() {
        list.extend_from_slice(head);
        rest = tail;
        if names_somebody(u16::from_le_bytes([head[0], head[1]])) {
            let (identifier, tail) = rest.split_first_chunk::<4>()?;
            list.extend_from_slice(identifier);
            rest = tail;
        } else {
            list.extend_from_slice(&NO_IDENTIFIER.to_le_bytes());
        }
    }
    rest.is_empty().then_some(list)
}

/// What ext4 stores of a list that a program gave; `None` when it is malformed.
pub fn stored(shown: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = shown.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != SHOWN || rest.len() % 8 != 0 {
        return None;
    }
    let mut list = STORED.to_le_bytes().to_vec();
    for entry in rest.chunks_exact(8) {
        let kept = if names_somebody(u16::from_le_bytes([entry[0], entry[1]])) {
            8
        } else {
            4
        };
        list.extend_from_slice(&entry[..kept]);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree() {
        let mut list = SHOWN.to_le_bytes().to_vec();
        for (tag, identifier) in [
            (1u16, NO_IDENTIFIER),
            (2, 1000),
            (4, NO_IDENTIFIER),
            (0x20, NO_IDENTIFIER),
        ] {
            list.extend_from_slice(&tag.to_le_bytes());
            list.extend_from_slice(&6u16.to_le_bytes());
            list.extend_from_slice(&identifier.to_le_bytes());
        }
        let kept = stored(&list).expect("sound");
        assert_eq!(kept.len(), 4 + 3 * 4 + 8);
        assert_eq!(shown(&kept), Some(list));
        assert_eq!(shown(&[1, 0, 0, 0, 2, 0, 6, 0]), None);
        assert_eq!(stored(&[2, 0, 0, 0, 1]), None);
    }
}
