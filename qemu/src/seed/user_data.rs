//! User data as MIME multipart (RFC 2046), which cloud-init, nodeadm and
//! `nodekiln-firstboot` all read.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};

/// Most bytes of user data: what EC2 allows is 16 KiB, but a seed is not bound
/// to that; this only keeps a mistake (an image instead of a NodeConfig) out.
pub const USER_DATA_LIMIT: usize = 16 << 20;

/// The type that nodeadm looks for.
const NODE_CONFIG: &str = "application/node.eks.aws";

/// How cloud-init tells the type of a part from its first line (its
/// documentation, "User-data formats").
const FIRST_LINES: &[(&str, &str)] = &[
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
    ("#!", "text/x-shellscript"),
];

/// One part of the user data.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    content_type: &'static str,
    body: String,
}

impl std::fmt::Debug for Part {
    /// Without the body: it may be secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Part")
            .field("content_type", &self.content_type)
            .field("length", &self.body.len())
            .finish()
    }
}

impl Part {
    /// A part for cloud-init, of the type that its first line tells
    /// (`#cloud-config`, `#!/bin/sh`...).
    ///
    /// # Errors
    /// [`crate::Kind::Input`] when it is not text, or its first line tells no
    /// type.
    pub fn of_cloud_init(body: impl Into<Vec<u8>>) -> Result<Self> {
        let body = text(body.into(), "the extra user data")?;
        let content_type = FIRST_LINES
            .iter()
            .find(|(start, _)| body.starts_with(start))
            .map(|(_, content_type)| *content_type)
            .ok_or_else(|| Error::Seed {
                reason: "the first line of the extra user data does not tell what it is".to_owned(),
                hint: Some("begin it with '#cloud-config', or with '#!' for a script".to_owned()),
            })?;
        Ok(Self { content_type, body })
    }

    /// A NodeConfig.
    pub(super) fn node_config(body: Vec<u8>) -> Result<Self> {
        let body = text(body, "the NodeConfig")?;
        if body.trim().is_empty() {
            return Err(Error::seed("the NodeConfig is empty"));
        }
        let start = body.trim_start().to_ascii_lowercase();
        if ["content-type:", "mime-version:"]
            .iter()
            .any(|header| start.starts_with(header))
        {
            return Err(Error::Seed {
                reason: "the NodeConfig is MIME user data, not a NodeConfig alone".to_owned(),
                hint: Some(
                    "give the part application/node.eks.aws alone, and the others as extra user data"
                        .to_owned(),
                ),
            });
        }
        Ok(Self {
            content_type: NODE_CONFIG,
            body,
        })
    }

    /// How the body travels. As it is, wherever that works: nodeadm ignores the
    /// transfer encoding and would take base64 for the NodeConfig itself. But
    /// cloud-init takes the bytes of such a body for Latin-1, so that its parts
    /// are encoded when they hold anything but ASCII.
    fn transfer(&self) -> (&'static str, Cow<'_, str>) {
        if self.content_type == NODE_CONFIG || self.body.is_ascii() {
            return ("8bit", Cow::Borrowed(&self.body));
        }
        let encoded = STANDARD.encode(&self.body);
        let lines: Vec<&str> = encoded
            .as_bytes()
            .chunks(76)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect();
        ("base64", Cow::Owned(lines.join("\n")))
    }

    /// The MIME type.
    pub fn content_type(&self) -> &str {
        self.content_type
    }
}

fn text(body: Vec<u8>, what: &str) -> Result<String> {
    if body.len() > USER_DATA_LIMIT {
        return Err(too_large());
    }
    match String::from_utf8(body) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(Error::seed(format!("{what} is not UTF-8 text"))),
    }
}

fn too_large() -> Error {
    Error::seed(format!(
        "the user data is larger than {} MiB",
        USER_DATA_LIMIT >> 20
    ))
}

/// Puts parts together. The boundary follows from their contents, so that the
/// same parts give the same bytes.
pub(super) fn multipart(parts: &[Part]) -> Result<Vec<u8>> {
    if parts.iter().map(|part| part.body.len()).sum::<usize>() > USER_DATA_LIMIT {
        return Err(too_large());
    }
    let boundary = (0..=USER_DATA_LIMIT)
        .map(|number| format!("==nodekiln-part-{number}=="))
        .find(|candidate| {
            !parts
                .iter()
                .any(|part| part.body.contains(candidate.as_str()))
        })
        .expect("texts of that size cannot hold every number up to it");
    let mut message = vec![format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n"
    )];
    for part in parts {
        let (encoding, body) = part.transfer();
        // The line feed in front of a boundary belongs to the boundary.
        message.push(format!(
            "--{boundary}\nContent-Type: {}; charset=\"utf-8\"\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: {encoding}\n\n{body}\n",
            part.content_type
        ));
    }
    message.push(format!("--{boundary}--\n"));
    Ok(message.concat().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundary_is_in_no_part() {
        let body = "a: ==nodekiln-part-0==\n--==nodekiln-part-1==--\n";
        let part = Part::node_config(body.into()).expect("text");
        let message = String::from_utf8(multipart(&[part]).expect("made")).expect("text");
        assert!(message.contains("boundary=\"==nodekiln-part-2==\""));
        assert!(message.ends_with("--==nodekiln-part-2==--\n"));
        assert!(message.contains(body));
    }

    #[test]
    fn tells_types_as_cloud_init_does() {
        let told = |body: &str| Part::of_cloud_init(body).map(|part| part.content_type);
        assert_eq!(told("#cloud-config\na: 1").ok(), Some("text/cloud-config"));
        assert_eq!(told("#!/bin/sh\n").ok(), Some("text/x-shellscript"));
        assert_eq!(
            told("#include-once\n").ok(),
            Some("text/x-include-once-url")
        );
        let error = told("a: 1").expect_err("no first line");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("#cloud-config"))
        );
    }

    #[test]
    fn refuses_what_is_not_a_node_config() {
        let refused = |body: &[u8]| {
            Part::node_config(body.to_vec())
                .expect_err("refused")
                .to_string()
        };
        assert!(refused(b" \n").contains("empty"));
        assert!(refused(b"\x1f\x8b\x08\0").contains("not UTF-8"));
        assert!(refused(b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n").contains("MIME"));
        assert!(refused(&vec![b'a'; USER_DATA_LIMIT + 1]).contains("larger"));
    }
}
