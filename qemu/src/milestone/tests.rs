use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn standing(tracker: &Tracker, name: &str) -> (Standing, Option<Duration>) {
    tracker
        .standings()
        .find(|(step, ..)| step.name == name)
        .map(|(_, standing, time)| (standing, time))
        .expect("a known milestone")
}

#[test]
fn patterns_are_pieces_in_order() {
    let pattern = Pattern::new("Reached target *Online");
    assert_eq!(
        pattern.find("[  OK  ] Reached target x - Network is Online."),
        Some(".")
    );
    assert_eq!(pattern.find("Online Reached target "), None);
    assert_eq!(Pattern::new("").find("x"), Some("x"));
    assert_eq!(Pattern::new("").find(""), None);
}

#[test]
fn a_later_milestone_implies_an_earlier_one() {
    let mut tracker = Tracker::new(Milestones::node());
    tracker.line("SeaBIOS", at(1));
    assert_eq!(
        tracker.waiting_for().map(|step| &*step.name),
        Some("kernel")
    );
    tracker.line("nodekiln-firstboot: started", at(5));
    assert_eq!(standing(&tracker, "kernel"), (Standing::Implied, None));
    assert_eq!(
        tracker.waiting_for().map(|step| &*step.name),
        Some("config")
    );
    // Seen after all.
    tracker.line(
        "[  OK  ] Reached target network-online.target - Network is Online.",
        at(6),
    );
    assert_eq!(
        standing(&tracker, "network"),
        (Standing::Reached, Some(at(6)))
    );
    for line in [
        "node configuration from cidata",
        "containerd is active",
        "kubelet is active",
    ] {
        tracker.line(&format!("nodekiln-firstboot: {line}"), at(7));
    }
    assert!(!tracker.is_done());
    let events = tracker.line("[   9.0] nodekiln-firstboot: done in 1.2 s", at(8));
    assert_eq!(events, [Event::Reached(9)]);
    assert!(tracker.is_done());
    assert_eq!(tracker.next_deadline(), None);
}

#[test]
fn the_greeting_of_grub_is_not_that_of_systemd() {
    let mut tracker = Tracker::new(Milestones::node());
    for (second, line) in (4..).zip([
        "BdsDxe: starting Boot0001",
        "Welcome to GRUB!",
        "[    0.000000] Linux version 6.1.0-56-cloud-amd64",
        "Welcome to Debian GNU/Linux 12 (bookworm)!",
    ]) {
        tracker.line(line, at(second));
    }
    let seen: Vec<_> = ["firmware", "loader", "kernel", "systemd"]
        .map(|name| standing(&tracker, name).1)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(seen, [at(4), at(5), at(6), at(7)]);
}

#[test]
fn every_milestone_has_its_own_deadline() {
    let mut tracker = Tracker::new(Milestones::login().scaled(2.0));
    assert_eq!(tracker.next_deadline(), Some(at(60)));
    assert_eq!(tracker.miss(at(59)), None);
    tracker.line("BdsDxe: loading", at(29));
    assert_eq!(
        tracker.next_deadline(),
        Some(at(120)),
        "the loader may be silent"
    );
    assert_eq!(
        tracker.miss(at(120)).map(|step| step.name.clone()),
        Some("kernel".to_owned())
    );
    assert_eq!(standing(&tracker, "kernel").0, Standing::Missed);
}

#[test]
fn a_quiet_guest_owes_only_its_end() {
    let mut tracker = Tracker::new(Milestones::login().quiet());
    tracker.line("BdsDxe", at(1));
    assert_eq!(tracker.waiting_for().map(|step| &*step.name), Some("login"));
}

#[test]
fn signs_of_failure_are_told_with_their_reason() {
    let failed = |line: &str| {
        let mut tracker = Tracker::new(Milestones::node());
        tracker
            .line(line, at(1))
            .into_iter()
            .find_map(|event| match event {
                Event::Failed { reason, .. } => Some(reason),
                Event::Reached(_) => None,
            })
    };
    assert_eq!(
        failed("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs").as_deref(),
        Some("the kernel panicked: VFS: Unable to mount root fs")
    );
    assert_eq!(
        failed("nodekiln-firstboot: failed: two NodeConfigs").as_deref(),
        Some("first boot failed: two NodeConfigs")
    );
    for line in [
        "You are in emergency mode. After logging in, type",
        "grub rescue> ",
        "UEFI Interactive Shell v2.2",
        "BdsDxe: No bootable option or device was found.",
        "No bootable device.",
        "ALERT!  UUID=x does not exist.  Dropping to a shell!",
    ] {
        assert!(failed(line).is_some(), "{line}");
    }
    assert_eq!(failed("Minimal BASH-like line editing is supported."), None);
    assert_eq!(failed("systemd[1]: Stopped target emergency.target"), None);
}

#[test]
fn own_milestones_find_their_place() {
    let all = Milestones::login().and(step("ssh", "SSH", 80, &["sshd"]));
    let names: Vec<&str> = all.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(
        names,
        ["firmware", "loader", "kernel", "systemd", "ssh", "login"]
    );
}

#[test]
fn milestones_are_data() {
    let text = serde_json::to_string(&Milestones::node()).expect("written");
    let back: Milestones = serde_json::from_str(&text).expect("read");
    assert_eq!(back, Milestones::node());
}
