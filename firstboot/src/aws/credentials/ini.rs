//! The files of profiles that the programs of AWS share, as far as they are used:
//! sections in brackets, and keys with values (AWS CLI user guide, "Configuration and
//! credential file settings").

/// Longest file that is read, in bytes.
pub const LONGEST: usize = 256 << 10;

/// The settings of a profile; the last of each name comes last. `None` when the file
/// has no such profile. A section is called `[name]` or `[profile name]`.
pub fn profile(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut found = None;
    let mut is_inside = false;
    for line in text.lines() {
        // What is indented belongs to a setting with parts of its own; none of them
        // is used here.
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let line = line.trim_end();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let section = rest.split(']').next().unwrap_or_default().trim();
            let section = section
                .strip_prefix("profile")
                .filter(|rest| rest.starts_with([' ', '\t']))
                .map_or(section, str::trim);
            is_inside = section == name;
            if is_inside {
                found.get_or_insert_with(Vec::new);
            }
        } else if is_inside
            && let Some((key, value)) = line.split_once('=')
            && let Some(settings) = &mut found
        {
            settings.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

/// The value of a setting.
pub fn setting(settings: &[(String, String)], name: &str) -> Option<String> {
    settings
        .iter()
        .rev()
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.clone())
}
