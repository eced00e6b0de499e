//! A certificate authority of a test, and what it issues.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

// By hand: the key is a secret.
impl std::fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub certificate: String,
}

fn parameters(name: &str, from: OffsetDateTime, good: Duration) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = from;
    parameters.not_after = from + good;
    parameters
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Authority {
    /// A new one, good since yesterday and for years.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn new(name: &str) -> Self {
        let yesterday = OffsetDateTime::now_utc() - time::Duration::DAY;
        let mut parameters = parameters(name, yesterday, 10 * YEAR);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("random numbers");
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(parameters, key),
            certificate,
        }
    }

    /// Its key, PEM: for who signs in its name.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The certificate of who has a name and, unless that is empty, is in a group, as
    /// Kubernetes reads them. Good since yesterday for a year.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn client(&self, name: &str, group: &str) -> Issued {
        let yesterday = OffsetDateTime::now_utc() - time::Duration::DAY;
        let mut parameters = parameters(name, yesterday, YEAR);
        if !group.is_empty() {
            let names = &mut parameters.distinguished_name;
            names.push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(parameters)
    }

    /// A server's certificate, good from `from` for a year.
    ///
    /// # Panics
    /// When a name is none.
    pub fn server(&self, addresses: &[IpAddr], names: &[&str], from: OffsetDateTime) -> Issued {
        let mut parameters = parameters("server", from, YEAR);
        parameters.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        for name in names {
            let name = (*name).try_into().expect("a name of a host");
            parameters.subject_alt_names.push(SanType::DnsName(name));
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(parameters)
    }

    /// A node's certificate for Roles Anywhere.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn node(&self, name: &str, serial: u64, from: OffsetDateTime, good: Duration) -> Issued {
        let mut parameters = parameters(name, from, good);
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(parameters)
    }

    /// A node's certificate that is good since yesterday, for a month.
    ///
    /// # Panics
    /// When the system gives no random numbers.
    pub fn node_for_a_month(&self, name: &str) -> Issued {
        let yesterday = OffsetDateTime::now_utc() - time::Duration::DAY;
        self.node(name, 7, yesterday, Duration::from_secs(30 * 24 * 3600))
    }

    fn issue(&self, parameters: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("random numbers");
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}
