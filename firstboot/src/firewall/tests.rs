use super::*;
use crate::system::pretended::Pretended;

fn with(program: &str) -> Pretended {
    let system = Pretended::node();
    system.put(&format!("/usr/sbin/{program}"), b"program", 0o755);
    system
}

#[test]
fn no_firewall_is_none_and_nothing_is_run() {
    let system = Pretended::node();
    assert_eq!(open(&system).unwrap(), Outcome::Absent);
    assert!(system.commands.borrow().is_empty());
}

#[test]
fn a_firewall_that_is_installed_and_does_not_run_is_none() {
    let system = with("firewall-cmd");
    system.fails("firewall-cmd --state", "not running");
    assert_eq!(open(&system).unwrap(), Outcome::Absent);
    let system = with("ufw");
    system.prints("ufw status", "Status: inactive\n");
    assert_eq!(open(&system).unwrap(), Outcome::Absent);
    let system = with("nft");
    system.prints("systemctl is-active nftables.service", "inactive\n");
    assert_eq!(open(&system).unwrap(), Outcome::Absent);
}

fn firewalld(now: &str, lasting: &str) -> Pretended {
    let system = with("firewall-cmd");
    system.prints("firewall-cmd --state", "running\n");
    system.prints("firewall-cmd --list-ports", now);
    system.prints("firewall-cmd --permanent --list-ports", lasting);
    system
}

#[test]
fn firewalld_is_told_once_for_now_and_once_for_good() {
    let system = firewalld("22/tcp 10250/udp\n", "10250/tcp\n");
    let lasting = "firewall-cmd --permanent --add-port=10256/tcp --add-port=30000-32767/tcp";
    let now = "firewall-cmd --add-port=10250/tcp --add-port=10256/tcp --add-port=30000-32767/tcp";
    system.prints(lasting, "success\n");
    system.prints(now, "success\n");
    assert_eq!(
        open(&system).unwrap(),
        Outcome::Opened(Kind::Firewalld, NODE_PORTS.to_vec())
    );
    assert_eq!((system.ran(lasting), system.ran(now)), (1, 1));
    let commands = system.commands.borrow().join("\n");
    assert!(!commands.contains("--reload"), "{commands}");
}

#[test]
fn firewalld_is_left_alone_where_ranges_hold_the_ports() {
    let listed = "10000-10252/tcp 10253-11000/tcp 30000-40000/tcp\n";
    let system = firewalld(listed, listed);
    assert_eq!(
        open(&system).unwrap(),
        Outcome::AlreadyOpen(Kind::Firewalld)
    );
    assert_eq!(system.commands.borrow().len(), 3);
}

#[test]
fn a_firewall_that_refuses_is_an_error_with_its_words() {
    let system = firewalld("", "");
    let lasting = "firewall-cmd --permanent --add-port=10250/tcp --add-port=10256/tcp \
                   --add-port=30000-32767/tcp";
    system.fails(lasting, "Error: ALREADY_BROKEN\n");
    let error = open(&system).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{lasting} failed: Error: ALREADY_BROKEN")
    );
    assert_eq!(error.exit_code(), 4);
}

const UFW: &str = "\
Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
10250,10256/tcp            ALLOW       Anywhere
30000:32767/tcp            ALLOW       10.0.0.0/8
8472/udp                   ALLOW IN    Anywhere
4789                       DENY        Anywhere
4789/udp                   ALLOW       Anywhere
OpenSSH                    ALLOW       Anywhere
30000:32767/tcp (v6)       ALLOW       Anywhere (v6)
";

#[test]
fn ufw_is_told_what_its_rules_for_everybody_do_not_allow() {
    let system = with("ufw");
    system.prints("ufw status", UFW);
    system.prints("ufw allow 30000:32767/tcp", "Rule added\n");
    assert_eq!(
        open(&system).unwrap(),
        Outcome::Opened(Kind::Ufw, vec![NODE_PORTS[2]])
    );
    assert_eq!(system.ran("ufw allow 30000:32767/tcp"), 1);
    assert_eq!(
        closed(&system, Kind::Ufw, &VXLAN_PORTS).unwrap(),
        [VXLAN_PORTS[1]]
    );
}

#[test]
fn ufw_is_left_alone_where_all_is_allowed() {
    let system = with("ufw");
    system.prints("ufw status", &UFW.replace("10.0.0.0/8", "Anywhere"));
    assert_eq!(open(&system).unwrap(), Outcome::AlreadyOpen(Kind::Ufw));
    system.prints(
        "ufw status",
        "Status: active\nAnywhere   ALLOW   Anywhere\n",
    );
    assert_eq!(open(&system).unwrap(), Outcome::AlreadyOpen(Kind::Ufw));
}

#[test]
fn a_ruleset_of_the_users_own_is_only_looked_at() {
    let system = with("nft");
    system.prints("systemctl is-active nftables.service", "active\n");
    let chain = r#"{"nftables":[{"chain":{"family":"ip","table":"t","name":"in",
        "type":"filter","hook":"input","policy":"drop"}}]}"#;
    system.prints("nft --json list ruleset", chain);
    let Outcome::Closed { kind, command, .. } = open(&system).unwrap() else {
        panic!("it is not closed");
    };
    assert_eq!(kind, Kind::Nftables);
    assert_eq!(
        command,
        "nft insert rule ip t in tcp dport { 10250, 10256, 30000-32767 } accept"
    );
    assert_eq!(system.commands.borrow().len(), 2);
    system.prints("nft --json list ruleset", "{");
    assert!(open(&system).is_err());
}

/// Runs `nft` in a network namespace of its own on a ruleset and gives its JSON.
fn real_ruleset(ruleset: &str, then: &str) -> String {
    let script = format!("nft -f - <<'END' && {then} && nft --json list ruleset\n{ruleset}\nEND\n");
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_rule_that_is_told_opens_the_ports_in_a_real_ruleset() {
    let ruleset = "table inet filter {
        chain services { tcp dport { 22, 10250 } accept; ip saddr 10.0.0.1 accept; }
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept
            iif lo accept
            jump services
            udp dport 8000-9000 accept
        }
    }";
    let system = with("nft");
    system.prints("systemctl is-active nftables.service", "active\n");
    system.prints("nft --json list ruleset", &real_ruleset(ruleset, "true"));
    let Outcome::Closed { ports, command, .. } = open(&system).unwrap() else {
        panic!("it is not closed");
    };
    assert_eq!(ports, NODE_PORTS[1..]);
    assert_eq!(
        closed(&system, Kind::Nftables, &VXLAN_PORTS).unwrap(),
        [VXLAN_PORTS[1]]
    );
    let command = command.replace('{', "'{").replace('}', "}'");
    system.prints("nft --json list ruleset", &real_ruleset(ruleset, &command));
    assert_eq!(open(&system).unwrap(), Outcome::AlreadyOpen(Kind::Nftables));
}
