//! What checks find on the machine itself.

use super::*;

#[test]
fn install_and_node_inactive() {
    let name = "install-validation";
    let sample = but(|it| drop(it.system.files.borrow_mut().remove("/usr/bin/kubelet")));
    assert_outcome(&sample, name, Failed, "/usr/bin/kubelet is not installed");
    let shown = "systemctl show --property=LoadState,ActiveState containerd.service";
    for (said, verdict, may_pass) in [
        ("LoadState=loaded\nActiveState=failed\n", Failed, true),
        ("LoadState=masked\nActiveState=inactive\n", Failed, false),
        ("LoadState=loaded\nActiveState=active\n", Fine, false),
    ] {
        let found = outcome(&but(|it| it.system.prints(shown, said)), name);
        assert_eq!(
            (found.verdict, found.may_pass),
            (verdict, may_pass),
            "{said}"
        );
    }
    let name = "node-inactive-validation";
    let environment = "/etc/eks/kubelet/environment";
    let sample = but(|it| it.system.put(environment, b"", 0o644));
    assert_outcome(
        &sample,
        name,
        Warning,
        "/etc/eks/kubelet/environment is there already",
    );
    let journal = format!("{{\"files\":{{\"{environment}\":\"\"}}}}");
    sample
        .system
        .put(crate::phases::JOURNAL, journal.as_bytes(), 0o600);
    assert_eq!(outcome(&sample, name).verdict, Fine);
    let sample = but(|it| {
        it.system
            .prints("systemctl is-active kubelet.service", "active\n");
    });
    assert_outcome(&sample, name, Warning, "the kubelet is running already");
}

#[test]
fn firewalls_of_cni() {
    let name = "cni-validation";
    let ufw = |rules: &str| {
        but(|it| {
            it.system.put("/usr/sbin/ufw", b"", 0o755);
            it.system
                .prints("ufw status", &format!("Status: active\n{rules}\n"));
        })
    };
    assert_outcome(
        &ufw("4789/udp ALLOW Anywhere"),
        name,
        Fine,
        "ufw lets 4789/udp through",
    );
    let closed = "ufw lets neither 8472/udp (Cilium) nor 4789/udp (Calico) through";
    assert_outcome(&ufw("22/tcp ALLOW Anywhere"), name, Failed, closed);
    assert_outcome(&ufw("").clone_inactive(), name, Fine, "no firewall runs");
}

impl Sample {
    fn clone_inactive(self) -> Self {
        self.system.prints("ufw status", "Status: inactive\n");
        self
    }
}

#[test]
fn cgroups_and_kernels() {
    let name = "cgroup-validation";
    let first = |minor, fail: Option<bool>| {
        but(|it| {
            it.system
                .files
                .borrow_mut()
                .remove("/sys/fs/cgroup/cgroup.controllers");
            it.system.put("/sys/fs/cgroup/memory/tasks", b"", 0o644);
            it.facts.kubelet = Version::new(1, minor, 0);
            if let Some(fail) = fail {
                it.config
                    .spec
                    .kubelet
                    .config
                    .insert("failCgroupV1".into(), fail.into());
            }
        })
    };
    assert_eq!(outcome(&first(30, None), name).verdict, Fine);
    assert_eq!(outcome(&first(31, None), name).verdict, Warning);
    assert_eq!(outcome(&first(35, None), name).verdict, Failed);
    assert_eq!(outcome(&first(35, Some(false)), name).verdict, Warning);
    let path = "/sys/fs/cgroup/cgroup.controllers";
    let sample = but(|it| it.system.put(path, b"cpu pids\n", 0o444));
    assert_outcome(
        &sample,
        name,
        Failed,
        "cgroups v2 without the controllers memory",
    );

    let name = "kernel-validation";
    for (release, minor, verdict) in [
        ("4.18.0-553.el8_10.x86_64", 32, Warning),
        ("4.18.0-553.el8_10.x86_64", 31, Warning),
        ("5.4.0-200-generic", 34, Warning),
        ("5.10.0", 34, Fine),
        ("6.1.155-176.282.amzn2023.x86_64", 34, Fine),
        ("unknown", 34, CouldNotRun),
    ] {
        let sample = but(|it| {
            it.system
                .put("/proc/sys/kernel/osrelease", release.as_bytes(), 0o444);
            it.facts.kubelet = Version::new(1, minor, 0);
        });
        assert_eq!(outcome(&sample, name).verdict, verdict, "{release} {minor}");
    }
}

#[test]
fn containerd_on_ubuntu() {
    let name = "containerd-version-validation";
    let on = |version: &str, containerd| {
        let text = format!("ID=ubuntu\nVERSION_ID=\"{version}\"\n");
        but(|it| {
            it.system.put("/etc/os-release", text.as_bytes(), 0o644);
            it.facts.containerd = containerd;
        })
    };
    assert_eq!(
        outcome(&on("24.04", Version::new(1, 7, 12)), name).verdict,
        Warning
    );
    assert_eq!(
        outcome(&on("24.04", Version::new(1, 7, 19)), name).verdict,
        Fine
    );
    assert_eq!(
        outcome(&on("22.04", Version::new(1, 7, 12)), name).verdict,
        Fine
    );
}

#[test]
fn room_limits_and_mtu() {
    let name = "disk-space-validation";
    let room = |free: u64, total: u64| {
        but(|it| {
            let room = Space {
                free: free << 30,
                total: total << 30,
            };
            it.system
                .spaces
                .borrow_mut()
                .insert("/var/lib".into(), room);
        })
    };
    assert_outcome(
        &room(0, 50),
        name,
        Failed,
        "only 0.0 GiB of 50.0 GiB free for /var/lib/containerd",
    );
    assert_eq!(outcome(&room(8, 20), name).verdict, Warning);
    assert_eq!(outcome(&room(70, 500), name).verdict, Warning);
    assert_eq!(outcome(&room(100, 500), name).verdict, Fine);
    assert_eq!(outcome(&room(0, 0), name).verdict, CouldNotRun);

    let name = "limits-validation";
    let limits = |files: &str, processes: &str| {
        let text = format!("Max processes {processes} x\nMax open files {files} x\n");
        but(|it| it.system.put("/proc/self/limits", text.as_bytes(), 0o444))
    };
    assert_outcome(
        &limits("unlimited", "4096"),
        name,
        Fine,
        "nofile unlimited, nproc 4096",
    );
    assert_outcome(
        &limits("1023", "4096"),
        name,
        Warning,
        "nofile is 1023, less than 1024",
    );
    assert_outcome(
        &limits("1024", "100"),
        name,
        Warning,
        "nproc is 100, less than 4096",
    );

    let name = "mtu-validation";
    for (mtu, verdict) in [
        ("1450", Fine),
        ("9001", Fine),
        ("1501", Warning),
        ("9216", Warning),
    ] {
        let sample = but(|it| {
            it.system
                .put("/sys/class/net/eth0/mtu", mtu.as_bytes(), 0o444);
        });
        assert_eq!(outcome(&sample, name).verdict, verdict, "{mtu}");
    }
}

#[test]
fn a_proxy_is_set_for_all_or_for_none() {
    let name = "proxy-validation";
    let set = |pairs: &[(&str, &str)]| {
        let variables = pairs
            .iter()
            .fold(Variables::default(), |all, (name, value)| {
                all.with(name, value)
            });
        but(|it| it.variables = variables)
    };
    assert_outcome(&set(&[("NO_PROXY", "x")]), name, Skipped, "no proxy is set");
    let secret = "http://me:s3cret@proxy:3128";
    let sample = set(&[("HTTPS_PROXY", secret), ("https_proxy", "http://other")]);
    assert_outcome(&sample, name, Failed, "HTTPS_PROXY and https_proxy differ");
    let sample = set(&[("https_proxy", secret)]);
    let detail = "containerd.service does not have the HTTPS_PROXY of this program";
    assert_outcome(&sample, name, Failed, detail);
    assert!(!outcome(&sample, name).hint.unwrap().contains("s3cret"));
    let text = format!("[Manager]\nDefaultEnvironment=\"HTTPS_PROXY={secret}\"\n");
    sample.system.put(
        "/etc/systemd/system.conf.d/environment.conf",
        text.as_bytes(),
        0o644,
    );
    let detail = "/etc/apt/apt.conf.d/proxy.conf names no proxy";
    assert_outcome(&sample, name, Warning, detail);
    let text = b"Acquire::http::Proxy \"http://proxy\";\n";
    sample
        .system
        .put("/etc/apt/apt.conf.d/proxy.conf", text, 0o644);
    assert_outcome(&sample, name, Fine, "the proxy is set for all services");
    let sample = set(&[("HTTP_PROXY", "http://p")]);
    for unit in ["containerd", "kubelet"] {
        let path = format!("/etc/systemd/system/{unit}.service.d/http-proxy.conf");
        sample.system.put(
            &path,
            b"[Service]\nEnvironment=HTTP_PROXY=http://p\n",
            0o644,
        );
    }
    assert_eq!(outcome(&sample, name).verdict, Warning);
}
