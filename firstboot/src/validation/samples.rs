//! A node of tests that every check finds to be right.

use std::time::Duration;

use super::{Cloud, CloudError, Cluster, Finding, LIMIT, Subject};
use crate::node_config::{self, NodeConfig};
use crate::render::Facts;
use crate::system::pretended::Pretended;
use crate::system::{Clock, Response, Space, Variables};

pub(super) const ENDPOINT: &str = "https://0123.gr7.us-west-2.eks.amazonaws.com";

/// Everything that a subject refers to; tests change what they are about.
pub(super) struct Sample {
    pub system: Pretended,
    pub config: NodeConfig,
    pub facts: Facts,
    pub variables: Variables,
    pub cluster: Option<Cluster>,
    pub undescribed: Option<Finding>,
    pub cloud: Answers,
}

/// What AWS answers.
pub(super) struct Answers {
    pub caller: Result<String, CloudError>,
    pub entries: Result<Vec<String>, CloudError>,
}

impl Cloud for Answers {
    fn caller(&self) -> Result<String, CloudError> {
        self.caller.clone()
    }

    fn access_entries(&self) -> Result<Vec<String>, CloudError> {
        self.entries.clone()
    }
}

impl Sample {
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            system: &self.system,
            config: &self.config,
            facts: &self.facts,
            variables: &self.variables,
            cluster: self.cluster.as_ref(),
            undescribed: self.undescribed.as_ref(),
            cloud: Some(&self.cloud),
            deadline: LIMIT,
        }
    }

    /// A hybrid node with IAM Roles Anywhere, as its first boot finds it.
    pub fn hybrid() -> Self {
        let text = format!(
            r#"{{"apiVersion":"node.eks.aws/v1alpha1","kind":"NodeConfig","spec":{{
            "cluster":{{"name":"c","region":"us-west-2","apiServerEndpoint":"{ENDPOINT}",
            "certificateAuthority":"Y2E=","cidr":"10.100.0.0/16"}},
            "hybrid":{{"iamRolesAnywhere":{{"nodeName":"node-1"}}}}}}}}"#
        );
        let config: NodeConfig = serde_json::from_str(&text).unwrap();
        let sample = Self {
            system: Pretended::node(),
            config: node_config::with_defaults(config),
            facts: Facts::default(),
            variables: Variables::default(),
            cluster: Some(Cluster {
                version: Some("1.34".into()),
                remote_node_networks: vec!["10.0.0.0/16".into()],
            }),
            undescribed: None,
            cloud: Answers {
                caller: Ok("arn:aws:sts::123456789012:assumed-role/node/node-1".into()),
                entries: Ok(vec!["arn:aws:iam::123456789012:role/path/node".into()]),
            },
        };
        sample.be_right();
        sample
    }

    fn be_right(&self) {
        let system = &self.system;
        for (path, content) in [
            (
                "/sys/fs/cgroup/cgroup.controllers",
                "cpuset cpu io memory hugetlb pids\n",
            ),
            ("/proc/sys/kernel/osrelease", "6.8.0-60-generic\n"),
            (
                "/proc/self/limits",
                "Limit            Soft Limit  Hard Limit  Units\n\
                 Max processes    63432       63432       processes\n\
                 Max open files   1024        524288      files\n",
            ),
        ] {
            system.put(path, content.as_bytes(), 0o444);
        }
        let room = Space {
            free: 40 << 30,
            total: 50 << 30,
        };
        system.spaces.borrow_mut().insert("/var/lib".into(), room);
        system.put("/sys/class/net/eth0/mtu", b"1500\n", 0o444);
        system.prints(
            "ip -json -4 address show",
            r#"[{"ifname":"lo","addr_info":[{"local":"127.0.0.1","scope":"host"}]},
                {"ifname":"eth0","addr_info":[{"local":"10.0.1.5","scope":"global"}]},
                {"ifname":"eth1","addr_info":[{"local":"192.168.7.7","scope":"global"}]}]"#,
        );
        system.prints(
            "ip -json -4 route show default",
            r#"[{"dst":"default","dev":"eth1","metric":200},
                {"dst":"default","dev":"eth0","metric":100}]"#,
        );
        let token = r#"{"kind":"ExecCredential","status":{"token":"t0ken"}}"#;
        let program =
            "/usr/local/bin/aws-iam-authenticator token --cluster-id c --region us-west-2";
        system.prints(program, token);
        let mut listeners = system.listeners.borrow_mut();
        listeners.push("rolesanywhere.us-west-2.amazonaws.com:443".into());
        listeners.push("ssm.us-west-2.amazonaws.com:443".into());
        drop(listeners);
        self.cluster_answers(200);
        let host = ENDPOINT.trim_start_matches("https://");
        system.listeners.borrow_mut().push(format!("{host}:443"));
        self.answers(
            "GET",
            &format!("{ENDPOINT}/readyz"),
            "Fri, 15 Jan 2027 08:00:02 GMT",
        );
        system.fails("systemctl is-active kubelet.service", "");
    }

    /// Has a server answer with this time.
    pub fn answers(&self, method: &str, url: &str, date: &str) {
        let answer = Response {
            status: 401,
            headers: vec![("date".into(), date.into())],
            body: Vec::new(),
        };
        let mut answers = self.system.answers.borrow_mut();
        answers.insert(format!("{method} {url}"), Ok(answer));
    }

    /// Has the cluster answer with this status to the node's token.
    pub fn cluster_answers(&self, status: u16) {
        let answer = Response {
            status,
            ..Response::default()
        };
        let url = format!("GET {ENDPOINT}/api/v1/namespaces/default/endpoints/kubernetes");
        self.system.answers.borrow_mut().insert(url, Ok(answer));
    }

    /// Lets time pass until all of it is over.
    pub fn without_time(&self) {
        Clock::pause(&self.system, LIMIT + Duration::from_secs(1));
    }
}
