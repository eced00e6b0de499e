//! What a node is asked once it is up, and its answers.

use nodekiln_qemu::{GuestCommand, Report, guest_command};

/// The files that first boot writes.
pub const FILES: [(&str, &str); 10] = [
    ("modules-load", "/etc/modules-load.d/containerd.conf"),
    ("sysctl-d", "/etc/sysctl.d/99-nodeadm.conf"),
    ("aws-config", "/etc/aws/hybrid/config"),
    ("containerd", "/etc/containerd/config.toml"),
    ("ca", "/etc/kubernetes/pki/ca.crt"),
    ("kubeconfig", "/var/lib/kubelet/kubeconfig"),
    (
        "credential-provider",
        "/etc/eks/image-credential-provider/config.json",
    ),
    ("kubelet-config", "/etc/kubernetes/kubelet/config.json"),
    ("environment", "/etc/eks/kubelet/environment"),
    ("resolv-conf", "/etc/resolv.conf"),
];
/// Those that only some NodeConfigs call for.
pub const DROP_INS: [(&str, &str); 2] = [
    (
        "kubelet-drop-in",
        "/etc/kubernetes/kubelet/config.json.d/00-nodeadm.conf",
    ),
    (
        "containerd-drop-in",
        "/etc/containerd/config.d/00-nodeadm.toml",
    ),
];
/// Parameters that the kubelet and the CNI plugins rely on.
pub const PARAMETERS: [(&str, &str); 6] = [
    ("vm.overcommit_memory", "1"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("net.ipv4.ip_forward", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.bridge.bridge-nf-call-ip6tables", "1"),
];

/// Everything that a node is asked.
pub fn questions() -> Vec<GuestCommand> {
    let files = FILES.iter().chain(&DROP_INS);
    let mut all: Vec<GuestCommand> = files
        .clone()
        .map(|(name, path)| guest_command(*name, format!("cat {path}")))
        .collect();
    let paths: Vec<&str> = files.map(|(_, path)| *path).collect();
    let parameters: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
    let more = [
        // The kubelet serves its health when its main loop runs.
        (
            "healthz",
            "curl -sS --retry 60 --retry-connrefused --retry-delay 1 --max-time 10 \
             http://127.0.0.1:10248/healthz"
                .to_owned(),
        ),
        (
            "cmdline",
            "tr '\\0' '\\n' </proc/$(pidof kubelet)/cmdline".to_owned(),
        ),
        (
            "modes",
            // The last is a folder.
            format!(
                "stat -L -c '%a %U:%G %n' {} /etc/eks/kubelet 2>/dev/null",
                paths.join(" ")
            ),
        ),
        (
            "active",
            "systemctl is-active containerd kubelet nodekiln-firstboot".to_owned(),
        ),
        (
            "enabled",
            "systemctl is-enabled containerd kubelet nodekiln-firstboot".to_owned(),
        ),
        ("status", "firstboot status --json".to_owned()),
        ("parameters", format!("sysctl -n {}", parameters.join(" "))),
        (
            "units",
            // From its files, since a manager that is busy does not answer in time; without
            // those that a running system makes for itself.
            "unshare --mount sh -c 'mount -t tmpfs none /run/systemd && \
             systemctl --root=/ list-unit-files --no-legend --no-pager --full'"
                .to_owned(),
        ),
        ("machine-id", "cat /etc/machine-id".to_owned()),
        ("hostname", "hostname".to_owned()),
        (
            "root",
            "findmnt -bnro SOURCE,FSTYPE,SIZE,OPTIONS /".to_owned(),
        ),
        (
            "esp",
            "findmnt -nro FSTYPE /boot/efi".to_owned(),
        ),
        (
            "journal",
            "journalctl -b -o json --no-pager _COMM=firstboot".to_owned(),
        ),
        (
            "plugins",
            "ctr plugins ls | grep -F io.containerd.grpc.v1".to_owned(),
        ),
        (
            "forward",
            "iptables -S FORWARD".to_owned(),
        ),
        // Waits for the kubelet's end, which must not come: 124 is the end of the
        // wait.
        (
            "stays",
            "timeout 10 tail --pid=$(pidof kubelet) -f /dev/null; echo $?; \
             systemctl show -P NRestarts kubelet containerd nodekiln-firstboot"
                .to_owned(),
        ),
        (
            "system",
            "timeout 90 systemctl is-system-running --wait; \
             systemctl list-units --failed --plain --no-legend"
                .to_owned(),
        ),
        ("time", "systemd-analyze --no-pager time; systemd-analyze --no-pager blame | head -n 30; \
                  systemd-analyze --no-pager critical-chain kubelet.service nodekiln-firstboot.service".to_owned()),
    ];
    all.extend(more.map(|(name, script)| guest_command(name, script)));
    all
}

/// A node's answers.
pub struct Answers(pub Report);

impl Answers {
    /// What a command printed, whatever its exit code.
    pub fn any(&self, name: &str) -> &str {
        let output = self.0.guest.get(name);
        &output
            .unwrap_or_else(|| unreachable!("{name} was not asked"))
            .output
    }

    /// What a command printed that has to succeed.
    pub fn text(&self, name: &str) -> &str {
        let text = self.any(name);
        let code = self.code(name);
        assert_eq!(code, 0, "{name}: {text}");
        text
    }

    /// A command's exit code.
    pub fn code(&self, name: &str) -> i32 {
        self.0
            .guest
            .get(name)
            .unwrap_or_else(|| unreachable!("{name} was not asked"))
            .code
    }

    /// What it printed, as JSON.
    pub fn json(&self, name: &str) -> serde_json::Value {
        let text = self.text(name);
        serde_json::from_str(text).unwrap_or_else(|error| unreachable!("{name}: {error}: {text}"))
    }

    /// The words of each line.
    pub fn rows(&self, name: &str) -> Vec<Vec<&str>> {
        let lines = self.any(name).lines();
        lines
            .map(|line| line.split_whitespace().collect())
            .collect()
    }
}
