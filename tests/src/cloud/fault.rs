//! How a service misbehaves when it is told to.

use serde::{Deserialize, Serialize};

use super::Service;

/// What goes wrong, where and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub service: Service,
    /// Only requests whose path begins so; all if it is missing.
    #[serde(default)]
    pub path: Option<String>,
    /// How often; always if it is missing.
    #[serde(default)]
    pub times: Option<u32>,
    /// What.
    pub kind: Kind,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request is read and never answered.
    Hang,
    /// An empty answer with this status.
    Status(u16),
    /// The answer that the service gives to who asks too often.
    Throttle,
    /// The right answer breaks off in the middle.
    HalfBody,
    /// The right answer stops in the middle, and the connection stays open.
    StalledBody,
    /// A body that never ends.
    EndlessBody,
    /// The connection is closed instead of an answer.
    Close,
    /// The answer is no HTTP.
    Nonsense,
}

impl Fault {
    /// A fault of a service, for all paths, so many times; 0 is always.
    pub fn of(service: Service, kind: Kind, times: u32) -> Self {
        Self {
            service,
            path: None,
            times: (times > 0).then_some(times),
            kind,
        }
    }

    /// Only for paths that begin so.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.path = Some(path.into());
        self
    }
}

/// The first fault that a request meets, counted down.
pub fn take(faults: &mut Vec<Fault>, service: Service, path: &str) -> Option<Kind> {
    let index = faults.iter().position(|fault| {
        fault.service == service
            && fault
                .path
                .as_ref()
                .is_none_or(|start| path.starts_with(start))
    })?;
    let fault = &mut faults[index];
    let kind = fault.kind;
    if let Some(times) = &mut fault.times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            faults.remove(index);
        }
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_met_as_often_as_it_says_and_only_where() {
        let mut faults = vec![
            Fault::of(Service::Imds, Kind::Status(503), 2).at("/latest/user"),
            Fault::of(Service::Sts, Kind::Hang, 0),
        ];
        let mut meet = |service, path| take(&mut faults, service, path);
        assert_eq!(meet(Service::Imds, "/latest/meta-data"), None);
        assert_eq!(meet(Service::Eks, "/latest/user-data"), None);
        for _ in 0..2 {
            let met = meet(Service::Imds, "/latest/user-data");
            assert_eq!(met, Some(Kind::Status(503)));
        }
        assert_eq!(meet(Service::Imds, "/latest/user-data"), None);
        for _ in 0..3 {
            assert_eq!(meet(Service::Sts, "/"), Some(Kind::Hang));
        }
    }
}
