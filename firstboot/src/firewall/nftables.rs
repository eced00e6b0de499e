//! A ruleset of the user's own: read, never written.
//!
//! What is looked at is each base chain on the hook `input` that drops what no rule
//! accepts. A port counts as open when a rule of the same table accepts it from
//! everywhere; finer questions (order, sets that change, marks) are left to the
//! user, who is warned and not stopped.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ports::Port;
use super::{Error, LIMIT, is_installed, tell_task};
use crate::system::{System, Task};

const PROGRAM: &str = "nft";
const UNIT: &str = "nftables.service";

/// Longest ruleset that is read, in bytes.
const RULESET_LIMIT: usize = 4 << 20;

/// The service loads the ruleset and ends; systemd keeps it as active. Without it
/// what is in the kernel is somebody else's: kube-proxy's, or a CNI plugin's.
pub(super) fn is_running(system: &dyn System) -> Result<bool, Error> {
    if !is_installed(system, PROGRAM) {
        return Ok(false);
    }
    let ended = system.run(&Task::new("systemctl", &["is-active", UNIT], LIMIT))?;
    Ok(ended.output.trim() == "active")
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// What no rule accepts.
    pub closed: Vec<Port>,
    /// Family, table and name of the chain that drops it.
    chain: Option<[String; 3]>,
}

impl Found {
    /// The command that opens what is closed.
    pub fn command(&self) -> Option<String> {
        let [family, table, chain] = self.chain.as_ref()?;
        let first = self.closed.first()?;
        let ranges: Vec<String> = self.closed.iter().map(|port| port.range("-")).collect();
        Some(format!(
            "nft insert rule {family} {table} {chain} {} dport {{ {} }} accept",
            first.protocol.name(),
            ranges.join(", ")
        ))
    }
}

pub(super) fn look(system: &dyn System, wanted: &[Port]) -> Result<Found, Error> {
    let task = Task::new(PROGRAM, &["--json", "list", "ruleset"], LIMIT).keeping(RULESET_LIMIT);
    let text = tell_task(system, &task)?;
    let refused = || Error::Refused {
        command: format!("{PROGRAM} --json list ruleset"),
        said: "its output is no JSON, or too long".into(),
    };
    let document: Value = serde_json::from_str(&text).map_err(|_| refused())?;
    let items = document["nftables"].as_array().ok_or_else(refused)?;
    Ok(judge(items, wanted))
}

/// The first dropping chain that does not let all ports through.
fn judge(items: &[Value], wanted: &[Port]) -> Found {
    let chains = items.iter().filter_map(|item| item.get("chain"));
    for chain in chains.filter(|chain| is_on_input(chain)) {
        let rules = rules_of(items, chain, chain["name"].as_str().unwrap_or_default());
        let drops = chain["policy"] == "drop" || rules.iter().any(|rule| drops_the_rest(rule));
        if !drops {
            continue;
        }
        let is_open = |port: &Port| {
            let name = chain["name"].as_str().unwrap_or_default();
            let mut known = BTreeMap::new();
            port.is_within(accepted(items, chain, name, *port, &mut known))
        };
        let closed: Vec<Port> = wanted
            .iter()
            .filter(|port| !is_open(port))
            .copied()
            .collect();
        if !closed.is_empty() {
            let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            return Found {
                closed,
                chain: Some([text("family"), text("table"), text("name")]),
            };
        }
    }
    Found::default()
}

fn is_on_input(chain: &Value) -> bool {
    chain["hook"] == "input"
        && chain["type"] == "filter"
        && matches!(chain["family"].as_str(), Some("ip" | "inet"))
}

/// The rules of a chain in the same table, each as its list of expressions.
fn rules_of<'a>(items: &'a [Value], chain: &Value, name: &str) -> Vec<&'a [Value]> {
    let rules = items.iter().filter_map(|item| item.get("rule"));
    rules
        .filter(|rule| {
            rule["family"] == chain["family"]
                && rule["table"] == chain["table"]
                && rule["chain"] == name
        })
        .filter_map(|rule| rule["expr"].as_array())
        .map(Vec::as_slice)
        .collect()
}

/// A rule without a condition that ends in `drop` or `reject`.
fn drops_the_rest(rule: &[Value]) -> bool {
    let is_end = |it: &Value| it.get("drop").is_some() || it.get("reject").is_some();
    rule.iter().any(is_end) && !rule.iter().any(|it| it.get("match").is_some())
}

/// The ranges of ports that rules of a chain, and of those it jumps to, accept.
/// Each chain is looked at once; one that leads back to itself adds nothing.
fn accepted(
    items: &[Value],
    base: &Value,
    name: &str,
    port: Port,
    known: &mut BTreeMap<String, Vec<(u16, u16)>>,
) -> Vec<(u16, u16)> {
    if let Some(ranges) = known.get(name) {
        return ranges.clone();
    }
    known.insert(name.to_owned(), Vec::new());
    let mut ranges = Vec::new();
    for rule in rules_of(items, base, name) {
        let Some(condition) = condition(rule, port) else {
            continue;
        };
        let jump = rule.iter().find_map(|it| {
            let to = it.get("jump").or_else(|| it.get("goto"))?;
            to["target"].as_str()
        });
        if rule.iter().any(|it| it.get("accept").is_some()) {
            ranges.extend(condition);
        } else if let Some(target) = jump {
            // What both ask for: a range is cut to those of the jump.
            for (first, last) in accepted(items, base, target, port, known) {
                let cut = condition.iter().map(|it| (first.max(it.0), last.min(it.1)));
                ranges.extend(cut.filter(|(first, last)| first <= last));
            }
        }
    }
    known.insert(name.to_owned(), ranges.clone());
    ranges
}

/// The destination ports that a rule is about; none when it asks for something
/// else besides, such as a source.
fn condition(rule: &[Value], port: Port) -> Option<Vec<(u16, u16)>> {
    let mut ranges = vec![(0, u16::MAX)];
    for expression in rule {
        let Some(matched) = expression.get("match") else {
            continue;
        };
        if matched["op"] != "==" && matched["op"] != "in" {
            return None;
        }
        let left = &matched["left"];
        if left["payload"]["field"] == "dport" {
            let protocol = left["payload"]["protocol"].as_str()?;
            if protocol != port.protocol.name() && protocol != "th" {
                return None;
            }
            ranges = self::ranges(&matched["right"])?;
        } else if left["meta"]["key"] == "l4proto" || left["payload"]["field"] == "protocol" {
            let right = &matched["right"];
            let name = port.protocol.name();
            let names = right["set"].as_array().map_or(&[][..], Vec::as_slice);
            if right != name && !names.iter().any(|it| it == name) {
                return None;
            }
        } else {
            return None;
        }
    }
    Some(ranges)
}

/// A number, a range, or a set of both.
fn ranges(right: &Value) -> Option<Vec<(u16, u16)>> {
    let number = |value: &Value| value.as_u64().and_then(|it| u16::try_from(it).ok());
    if let Some(port) = number(right) {
        return Some(vec![(port, port)]);
    }
    if let Some(ends) = right["range"].as_array() {
        return Some(vec![(number(ends.first()?)?, number(ends.get(1)?)?)]);
    }
    let members = right["set"].as_array()?;
    let each: Option<Vec<_>> = members.iter().map(ranges).collect();
    Some(each?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::super::NODE_PORTS;
    use super::*;

    fn rule(chain: &str, expressions: &str) -> String {
        format!(
            r#"{{"rule":{{"family":"inet","table":"filter","chain":"{chain}","handle":1,"expr":[{expressions}]}}}}"#
        )
    }

    fn found(policy: &str, rules: &[String]) -> Found {
        let chain = format!(
            r#"{{"chain":{{"family":"inet","table":"filter","name":"input","type":"filter","hook":"input","prio":0,"policy":"{policy}"}}}}"#
        );
        let text = format!("[{chain},{}]", rules.join(",")).replace(",]", "]");
        let items: Vec<Value> = serde_json::from_str(&text).unwrap();
        judge(&items, &NODE_PORTS)
    }

    fn dport(right: &str) -> String {
        format!(
            r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
        )
    }

    const SOURCE: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.1"}}"#;

    #[test]
    fn a_chain_that_accepts_what_is_left_closes_nothing() {
        assert_eq!(found("accept", &[]), Found::default());
        let ssh = format!("{},{}", dport("22"), r#"{"drop":null}"#);
        assert_eq!(found("accept", &[rule("input", &ssh)]), Found::default());
    }

    #[test]
    fn a_chain_that_drops_closes_what_no_rule_accepts() {
        let found = found("drop", &[]);
        assert_eq!(found.closed, NODE_PORTS);
        assert_eq!(
            found.command().unwrap(),
            "nft insert rule inet filter input tcp dport { 10250, 10256, 30000-32767 } accept"
        );
        let rest = rule("input", r#"{"counter":null},{"reject":null}"#);
        assert_eq!(self::found("accept", &[rest]).closed, NODE_PORTS);
    }

    #[test]
    fn rules_for_everybody_open_and_rules_for_some_do_not() {
        let set = dport(r#"{"set":[22,{"range":[10250,10256]},{"range":[30000,32767]}]}"#);
        let accept = format!("{set},{}", r#"{"accept":null}"#);
        assert_eq!(found("drop", &[rule("input", &accept)]), Found::default());
        let from_one = format!("{SOURCE},{accept}");
        assert_eq!(
            found("drop", &[rule("input", &from_one)]).closed,
            NODE_PORTS
        );
        let one = format!("{},{}", dport("10250"), r#"{"accept":null}"#);
        assert_eq!(
            found("drop", &[rule("input", &one)]).closed,
            NODE_PORTS[1..]
        );
    }

    #[test]
    fn jumps_are_followed_and_a_circle_ends() {
        let to = |chain: &str| format!(r#"{{"jump":{{"target":"{chain}"}}}}"#);
        let set = dport(r#"{"set":[10250,10256,{"range":[30000,32767]}]}"#);
        let rules = [
            rule("input", &to("node")),
            rule("node", &to("input")),
            rule("node", &format!("{set},{}", r#"{"accept":null}"#)),
        ];
        assert_eq!(found("drop", &rules), Found::default());
        let narrow = [
            rule("input", &format!("{},{}", dport("10250"), to("node"))),
            rule("node", r#"{"accept":null}"#),
        ];
        assert_eq!(found("drop", &narrow).closed, NODE_PORTS[1..]);
    }
}
