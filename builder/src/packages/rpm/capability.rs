//! Capabilities of files: from the text that an rpm has (cap_from_text(3)) to the value of
//! the extended attribute (`include/uapi/linux/capability.h`, `vfs_cap_data`).

/// The attribute.
pub const ATTRIBUTE: &str = "security.capability";
/// Version 2 of the value: 64 capabilities, no user namespace.
const REVISION_2: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;
/// By number.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The value for `text`, such as `cap_net_admin,cap_net_raw=ep`; `None` when it is not
/// understood.
pub fn value(text: &str) -> Option<Vec<u8>> {
    let (mut permitted, mut inheritable, mut effective) = (0_u64, 0_u64, 0_u64);
    for clause in text.split_whitespace() {
        let end = clause.find(['=', '+', '-'])?;
        let (names, mut actions) = clause.split_at(end);
        let mask = mask(names)?;
        while !actions.is_empty() {
            let (operator, rest) = actions.split_at(1);
            let end = rest.find(['=', '+', '-']).unwrap_or(rest.len());
            let (flags, after) = rest.split_at(end);
            actions = after;
            if operator == "=" {
                permitted &= !mask;
                inheritable &= !mask;
                effective &= !mask;
            }
            for flag in flags.chars() {
                let set = match flag {
                    'p' => &mut permitted,
                    'i' => &mut inheritable,
                    'e' => &mut effective,
                    _ => return None,
                };
                if operator == "-" {
                    *set &= !mask;
                } else {
                    *set |= mask;
                }
            }
        }
    }
    // A file has one bit for all that is effective.
    if effective != 0 && effective != permitted | inheritable {
        return None;
    }
    let first = REVISION_2 | if effective == 0 { 0 } else { EFFECTIVE };
    let halves = [
        permitted as u32,
        inheritable as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    let words = [first].into_iter().chain(halves);
    Some(words.flat_map(u32::to_le_bytes).collect())
}

fn mask(names: &str) -> Option<u64> {
    if names.is_empty() || names.eq_ignore_ascii_case("all") {
        return Some((1 << NAMES.len()) - 1);
    }
    names.split(',').try_fold(0, |mask, name| {
        let name = name.to_ascii_lowercase();
        let number = NAMES
            .iter()
            .position(|known| name.strip_prefix("cap_") == Some(known))?;
        Some(mask | 1 << number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_setcap_writes() {
        let value = |text| {
            value(text).map(|bytes| {
                bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            })
        };
        assert_eq!(
            value("cap_net_raw=ep").as_deref(),
            Some("0100000200200000000000000000000000000000")
        );
        assert_eq!(
            value("= cap_net_admin,cap_net_raw+p").as_deref(),
            Some("0000000200300000000000000000000000000000")
        );
        assert_eq!(
            value("cap_bpf=i").as_deref(),
            Some("0000000200000000000000000000000080000000")
        );
        for damaged in [
            "cap_none=p",
            "cap_bpf",
            "cap_bpf=x",
            "cap_bpf=p cap_chown=ep",
        ] {
            assert_eq!(value(damaged), None, "{damaged}");
        }
    }
}
