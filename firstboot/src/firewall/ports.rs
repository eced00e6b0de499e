//! Ports, and the lists of them that a node needs.

use std::fmt;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Ports next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The first.
    pub first: u16,
    /// The last; the same for a single one.
    pub last: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

impl Port {
    const fn tcp(first: u16, last: u16) -> Self {
        let protocol = Protocol::Tcp;
        Self {
            first,
            last,
            protocol,
        }
    }

    const fn udp(port: u16) -> Self {
        Self {
            first: port,
            last: port,
            protocol: Protocol::Udp,
        }
    }

    /// Range and protocol, with what stands between the ends: `30000-32767/tcp`.
    pub fn with(self, between: &str) -> String {
        format!("{}/{}", self.range(between), self.protocol.name())
    }

    /// The range alone: `30000-32767`, or `10250`.
    pub fn range(self, between: &str) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}{between}{}", self.first, self.last)
        }
    }

    /// Whether ranges of the same protocol hold all of it between them.
    pub fn is_within(self, ranges: impl IntoIterator<Item = (u16, u16)>) -> bool {
        let mut ranges: Vec<(u16, u16)> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut next = u32::from(self.first);
        for (first, last) in ranges {
            if u32::from(first) <= next && u32::from(last) >= next {
                next = u32::from(last) + 1;
            }
        }
        next > u32::from(self.last)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.with("-"))
    }
}

/// The kubelet, kube-proxy's health, and node ports (`aws/eks-hybrid`,
/// `internal/system`).
pub const NODE_PORTS: [Port; 3] = [
    Port::tcp(10_250, 10_250),
    Port::tcp(10_256, 10_256),
    Port::tcp(30_000, 32_767),
];

/// VXLAN of Cilium and of Calico, of which a hybrid node needs one.
pub const VXLAN_PORTS: [Port; 2] = [Port::udp(8472), Port::udp(4789)];

/// Reads `10250` or a range, with `between` between its ends.
pub(super) fn range(text: &str, between: char) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(between).unwrap_or((text, text));
    let range: (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}
