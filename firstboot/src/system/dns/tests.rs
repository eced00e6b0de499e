use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::configuration::{candidates, configuration, hosts};
use super::message::{Answer, Kind, MessageError, Name, answer, question};
use super::resolver::Resolver;
use crate::node_config::tests::corpus::replay;
use crate::system::NetworkError;
use crate::system::http::Deadline;

/// An answer to a question, with a code and addresses for it.
fn reply(question: &[u8], code: u8, addresses: &[&str]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2] |= 0x80;
    message[3] = code;
    let kind = question[question.len() - 3];
    let mut count = 0;
    for address in addresses {
        let (its_kind, bytes) = match address.parse().unwrap() {
            IpAddr::V4(address) => (1, address.octets().to_vec()),
            IpAddr::V6(address) => (28, address.octets().to_vec()),
        };
        if its_kind == kind {
            message.extend([
                0xc0,
                12,
                0,
                its_kind,
                0,
                1,
                0,
                0,
                0,
                9,
                0,
                bytes.len() as u8,
            ]);
            message.extend(bytes);
            count += 1;
        }
    }
    message[7] = count;
    message
}

/// A server on a port of its own, which answers every datagram with some.
fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (u16, Option<TcpListener>) {
    // The same port for both, as DNS has it.
    let (socket, listener) = (0..50)
        .find_map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let listener = TcpListener::bind(socket.local_addr().ok()?).ok()?;
            Some((socket, listener))
        })
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            for answer in answers(&buffer[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    (port, Some(listener))
}

fn lookup(port: u16, name: &str, options: &str) -> Result<Vec<IpAddr>, NetworkError> {
    let folder = tempfile::tempdir().unwrap();
    let (known, servers) = (
        folder.path().join("hosts"),
        folder.path().join("resolv.conf"),
    );
    std::fs::write(&known, "10.9.9.9 known.example # and more\n").unwrap();
    std::fs::write(&servers, format!("nameserver 127.0.0.1\n{options}\n")).unwrap();
    let resolver = Resolver::new(&known, &servers, port);
    resolver.lookup(name, Deadline::after(Duration::from_secs(5)))
}

fn reason(outcome: Result<Vec<IpAddr>, NetworkError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn both_kinds_of_addresses_are_found() {
    let (port, _listener) =
        server(|it| vec![reply(it, 0, &["10.0.0.1", "2001:db8::1", "10.0.0.2"])]);
    let found = lookup(port, "a.example", "").unwrap();
    let expected = ["10.0.0.1", "10.0.0.2", "2001:db8::1"];
    assert_eq!(found, expected.map(|it| it.parse::<IpAddr>().unwrap()));
    assert_eq!(
        lookup(port, "KNOWN.example", "").unwrap()[0].to_string(),
        "10.9.9.9"
    );
    assert_eq!(lookup(port, "[::1]", "").unwrap()[0].to_string(), "::1");
}

#[test]
fn servers_that_fail_and_names_that_are_not_there_are_told_apart() {
    let (port, _listener) = server(|it| vec![reply(it, 2, &[])]);
    assert_eq!(
        reason(lookup(port, "a.example", "")),
        "the name a.example cannot be resolved: no DNS server answers (127.0.0.1: it failed (SERVFAIL))"
    );
    let (port, _listener) = server(|it| vec![reply(it, 3, &[])]);
    assert!(reason(lookup(port, "a.example", "")).ends_with("there is no such name"));
    let (port, _listener) = server(|it| vec![reply(it, 0, &[])]);
    assert!(reason(lookup(port, "a.example", "")).ends_with("it has no address"));
    assert!(reason(lookup(port, "a b", "")).ends_with("this is no name of a host"));
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    let (port, _listener) = server(|_| Vec::new());
    let started = Instant::now();
    let text = reason(lookup(port, "a.example", "options timeout:1 attempts:1"));
    assert!(text.contains("127.0.0.1: no answer"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn an_answer_with_a_wrong_id_is_passed_over() {
    let (port, _listener) = server(|it| {
        let mut forged = reply(it, 0, &["6.6.6.6"]);
        forged[0] ^= 1;
        vec![forged, reply(it, 0, &["10.0.0.1"])]
    });
    assert_eq!(
        lookup(port, "a.example", "").unwrap()[0].to_string(),
        "10.0.0.1"
    );
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    let (port, listener) = server(|it| {
        let mut short = reply(it, 0, &[]);
        short[2] |= 0x02;
        vec![short]
    });
    let listener = listener.unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut asked).unwrap();
            let answer = reply(&asked, 0, &["10.0.0.1"]);
            stream
                .write_all(&(answer.len() as u16).to_be_bytes())
                .unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    assert_eq!(
        lookup(port, "a.example", "").unwrap()[0].to_string(),
        "10.0.0.1"
    );
}

#[test]
fn names_are_searched_for_as_resolv_conf_says() {
    let (port, _listener) = server(|it| {
        let is_searched = it.windows(4).any(|part| part == b"corp");
        vec![reply(it, if is_searched { 0 } else { 3 }, &["10.0.0.1"])]
    });
    assert!(lookup(port, "a", "search corp.example").is_ok());
    assert!(lookup(port, "a.b", "search corp.example").is_ok());
    assert!(lookup(port, "a.b.", "search corp.example").is_err());
    let read = configuration("search x y\noptions ndots:2 timeout:99\nnameserver ?\n", 53);
    assert_eq!(candidates(&read, "a.b"), ["a.b.x", "a.b.y", "a.b"]);
    assert_eq!(candidates(&read, "a.b.c"), ["a.b.c", "a.b.c.x", "a.b.c.y"]);
    assert_eq!(read.timeout, Duration::from_secs(30));
    assert_eq!(read.servers, ["127.0.0.1:53".parse().unwrap()]);
    assert_eq!(hosts("", "localhost").len(), 2);
}

#[test]
fn loops_of_pointers_and_cut_messages_are_refused() {
    let name = Name::new("a.example").unwrap();
    let asked = question(7, &name, Kind::V4);
    let whole = reply(&asked, 0, &["10.0.0.1"]);
    for end in 0..whole.len() {
        assert!(answer(&whole[..end], 7, &name, Kind::V4).is_err(), "{end}");
    }
    let mut looped = whole.clone();
    let at = asked.len();
    looped[at + 1] = at as u8;
    assert_eq!(
        answer(&looped, 7, &name, Kind::V4),
        Err(MessageError::Malformed)
    );
    assert_eq!(
        answer(&whole, 8, &name, Kind::V4),
        Err(MessageError::Foreign)
    );
    assert_eq!(
        answer(&whole, 7, &name, Kind::V6),
        Err(MessageError::Foreign)
    );
    let other = Name::new("b.example").unwrap();
    assert_eq!(
        answer(&whole, 7, &other, Kind::V4),
        Err(MessageError::Foreign)
    );
}

#[test]
fn aliases_are_followed_and_strangers_left_out() {
    let name = Name::new("a.example").unwrap();
    let mut message = reply(&question(7, &name, Kind::V4), 0, &[]);
    // a.example is an alias of b, which has an address; so has c, unasked.
    message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'b', 0]);
    message.extend([1, b'c', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 6, 6, 6, 6]);
    message.extend([1, b'B', 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
    message[7] = 3;
    let expected = Answer::Addresses(vec![IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(answer(&message, 7, &name, Kind::V4), Ok(expected));
}

#[test]
fn the_corpus_neither_panics_nor_hangs() {
    let name = Name::new("a.example").unwrap();
    replay("dns", 200, |input| {
        let _ = answer(input, 0x1234, &name, Kind::V4);
        let _ = answer(input, 0x1234, &name, Kind::V6);
    });
}
