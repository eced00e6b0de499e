//! User data as it is delivered, to the texts of the NodeConfigs in it: base64,
//! gzip and MIME, whole and per part.
//!
//! Follows `nodeadm/internal/configprovider` of `awslabs/amazon-eks-ami`, but
//! honours `Content-Transfer-Encoding` and refuses what would lose a part.

use std::fmt;
use std::io::Read as _;

use base64::Engine as _;

use super::model::{API_VERSION, KIND};
use super::{Problem, mime};

/// Largest user data, in bytes, before and after it is decompressed.
pub const MAXIMUM_USER_DATA: usize = 16 << 20;

/// Above this size, in bytes, compressed data may not grow more than
/// [`MAXIMUM_RATIO`] times.
const RATIO_MATTERS_FROM: usize = 1 << 20;
const MAXIMUM_RATIO: usize = 200;
/// Most layers of base64 and gzip around a text.
const MAXIMUM_LAYERS: usize = 4;
/// Media type of a NodeConfig in MIME.
pub(super) const MEDIA_TYPE: &str = "application/node.eks.aws";

/// The text of one NodeConfig and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it came from, for messages; empty when there is only one.
    pub origin: String,
    /// The text: YAML or JSON.
    pub text: String,
}

// By hand, for the text may hold an activation code.
impl fmt::Debug for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Part")
            .field("origin", &self.origin)
            .field("text", &format_args!("({} bytes)", self.text.len()))
            .finish()
    }
}

/// What user data holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The NodeConfigs, in their order; never empty.
    pub parts: Vec<Part>,
    /// What else was seen and left alone, such as `text/cloud-config`.
    pub skipped: Vec<String>,
}

/// Why user data gives no NodeConfig.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The user data is for somebody else.
    #[error("no NodeConfig in the user data: {0}")]
    NoNodeConfig(String),
    /// More than [`MAXIMUM_USER_DATA`], before or after it is decompressed.
    #[error("the user data is larger than 16 MiB")]
    TooLarge,
    /// Something in it cannot be read; what, and where.
    #[error("{0}")]
    Broken(String),
}

impl DecodeError {
    /// Whether the user data simply holds no NodeConfig.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoNodeConfig(_))
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let hint = match &error {
            DecodeError::NoNodeConfig(_) => {
                "give the NodeConfig alone, or as a MIME part of type application/node.eks.aws"
            }
            DecodeError::TooLarge => "a NodeConfig is some kilobytes; move the rest elsewhere",
            DecodeError::Broken(_) => "check how the user data was put together",
        };
        Problem::new("", error.to_string()).with_hint(hint)
    }
}

/// Finds the NodeConfigs in user data.
///
/// # Errors
/// When there is none, when the user data is too large, and when it is damaged.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut budget = MAXIMUM_USER_DATA;
    let bytes = unwrap_layers(bytes.to_vec(), &mut budget)?;
    if let Some(message) = mime::Message::read(&bytes) {
        let mut decoded = Decoded {
            parts: Vec::new(),
            skipped: Vec::new(),
        };
        collect(&message?, "", 0, &mut budget, &mut decoded)?;
        return if decoded.parts.is_empty() {
            let seen = match decoded.skipped.as_slice() {
                [] => "it is a MIME message without parts".to_owned(),
                seen => format!("its MIME parts are {}", seen.join(", ")),
            };
            Err(DecodeError::NoNodeConfig(seen))
        } else {
            if let [only] = decoded.parts.as_mut_slice() {
                only.origin.clear();
            }
            Ok(decoded)
        };
    }
    let text = into_text(bytes)?;
    if let Some(other) = foreign_format(&text) {
        return Err(DecodeError::NoNodeConfig(other));
    }
    Ok(Decoded {
        parts: vec![Part {
            origin: String::new(),
            text,
        }],
        skipped: Vec::new(),
    })
}

/// Takes the parts of a message, and of messages within it.
fn collect(
    message: &mime::Message<'_>,
    origin: &str,
    depth: usize,
    budget: &mut usize,
    decoded: &mut Decoded,
) -> Result<(), DecodeError> {
    const MAXIMUM_DEPTH: usize = 3;
    if !message.is_multipart() {
        if message.media_type != MEDIA_TYPE {
            decoded.skipped.push(mime::shown(&message.media_type));
            return Ok(());
        }
        let body = message.content(origin)?;
        let text = into_text(unwrap_layers(body, budget)?).map_err(|error| match error {
            DecodeError::Broken(what) => DecodeError::Broken(format!("{origin}: {what}")),
            other => other,
        })?;
        decoded.parts.push(Part {
            origin: origin.to_owned(),
            text,
        });
        return Ok(());
    }
    if depth == MAXIMUM_DEPTH {
        return Err(DecodeError::Broken(
            "MIME messages are nested too deeply".to_owned(),
        ));
    }
    for (index, part) in message.parts()?.into_iter().enumerate() {
        let number = index + 1;
        let origin = if origin.is_empty() {
            format!("MIME part {number}")
        } else {
            format!("{origin}.{number}")
        };
        let part = part.map_err(|what| DecodeError::Broken(format!("{origin}: {what}")))?;
        collect(&part, &origin, depth + 1, budget, decoded)?;
    }
    Ok(())
}

/// Takes base64 and gzip off, as long as there is any.
fn unwrap_layers(mut bytes: Vec<u8>, budget: &mut usize) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() > MAXIMUM_USER_DATA {
        return Err(DecodeError::TooLarge);
    }
    for _ in 0..MAXIMUM_LAYERS {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = gunzip(&bytes, budget)?;
        } else if let Some(inner) = base64_of_something(&bytes) {
            bytes = inner;
        } else {
            return Ok(bytes);
        }
    }
    Err(DecodeError::Broken(
        "the user data is compressed or encoded too many times".to_owned(),
    ))
}

fn gunzip(bytes: &[u8], budget: &mut usize) -> Result<Vec<u8>, DecodeError> {
    let limit = (bytes.len().saturating_mul(MAXIMUM_RATIO))
        .max(RATIO_MATTERS_FROM)
        .min(*budget);
    let mut output = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit as u64 + 1)
        .read_to_end(&mut output)
        .map_err(|_| DecodeError::Broken("the gzip data is damaged or cut off".to_owned()))?;
    if output.len() > limit {
        return Err(DecodeError::TooLarge);
    }
    *budget -= output.len();
    Ok(output)
}

/// What standard base64 with line breaks stands for, if that is gzip or text. A
/// word such as `test` is base64 by accident, but stands for neither.
fn base64_of_something(bytes: &[u8]) -> Option<Vec<u8>> {
    let decoded = base64_lenient(bytes)?;
    let plausible = decoded.starts_with(&[0x1f, 0x8b])
        || std::str::from_utf8(&decoded).is_ok_and(|text| !text.contains('\0'));
    (plausible && !decoded.is_empty()).then_some(decoded)
}

/// Standard base64 with white space anywhere.
pub(crate) fn base64_lenient(bytes: &[u8]) -> Option<Vec<u8>> {
    // Almost every text is told apart by its first characters; do not copy it for that.
    let is_base64 = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b"+/=".contains(byte) || byte.is_ascii_whitespace()
    };
    if !bytes.iter().all(is_base64) {
        return None;
    }
    let compact: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(compact)
        .ok()
}

fn into_text(bytes: Vec<u8>) -> Result<String, DecodeError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        DecodeError::Broken(format!("the text is no UTF-8 at byte {offset}"))
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// What a text is, when it is certainly no NodeConfig.
fn foreign_format(text: &str) -> Option<String> {
    const HEADERS: &[(&str, &str)] = &[
        ("#cloud-config-archive", "a #cloud-config-archive document"),
        ("#cloud-config-jsonp", "a #cloud-config-jsonp document"),
        ("#cloud-config", "a #cloud-config document"),
        ("#cloud-boothook", "a #cloud-boothook script"),
        ("#include-once", "an #include-once list"),
        ("#include", "an #include list"),
        ("#upstart-job", "an #upstart-job document"),
        ("#part-handler", "a #part-handler script"),
        ("## template:", "a template for cloud-init"),
        ("#ps1", "a PowerShell script"),
        ("rem cmd", "a script for Windows"),
        ("<powershell>", "a PowerShell script"),
        ("#!", "a script"),
    ];
    let names_one = text.contains("node.eks.aws/") || text.contains(KIND);
    let start = text.trim_start();
    if start.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some((_, what)) = HEADERS.iter().find(|(header, _)| start.starts_with(header)) {
        let within = if names_one {
            "; a NodeConfig within it is for whoever runs it, and not read here"
        } else {
            ""
        };
        return Some(format!("it is {what}{within}"));
    }
    let has_header = start.lines().any(|line| {
        let line = line.trim_start_matches(['"', '{', ' ', '\t']);
        line.starts_with("apiVersion") || line.starts_with("kind")
    });
    (!names_one && !has_header).then(|| {
        format!("it is text that has neither `apiVersion: {API_VERSION}` nor `kind: {KIND}`")
    })
}
