//! `kubelet-cert-validation`: a serving certificate that the kubelet has from
//! before was given by this cluster. Its dates do not matter: the kubelet renews it.

use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

use super::{Finding, Subject};
use crate::node_config::read_certificates;
use crate::system::{self, SIGNATURES};

const PATH: &str = "/var/lib/kubelet/pki/kubelet-server-current.pem";

pub(super) fn look(subject: &Subject<'_>) -> Result<Finding, system::Error> {
    let Some(path) = subject.system.resolve(PATH) else {
        return Ok(Finding::ok("the kubelet has no certificate yet"));
    };
    let Some(text) = subject.text(&path)? else {
        return Ok(Finding::ok("the kubelet has no certificate yet"));
    };
    let authority = subject.config.spec.cluster.certificate_authority_pem();
    let Some(authority) = authority.filter(|pem| !pem.is_empty()) else {
        return Ok(Finding::could_not_run(
            "the cluster's authority is not known",
        ));
    };
    Ok(match verify(text.as_bytes(), &authority) {
        Verified::Yes => Finding::ok("the kubelet's certificate is of this cluster"),
        Verified::Unreadable(what) => Finding::could_not_run(format!("{what} cannot be read")),
        Verified::No => Finding::failed(
            format!("{PATH} was not given by this cluster's authority"),
            format!("rm {path} {PATH}; the kubelet then asks for a new one"),
        ),
    })
}

enum Verified {
    Yes,
    No,
    Unreadable(&'static str),
}

fn verify(pem: &[u8], authority: &[u8]) -> Verified {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let added = certificate.map(|certificate| roots.add(certificate));
        if !matches!(added, Ok(Ok(()))) {
            return Verified::Unreadable("the cluster's authority");
        }
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let Some((leaf, between)) = certificates.as_deref().ok().and_then(<[_]>::split_first) else {
        return Verified::Unreadable(PATH);
    };
    // Within its own validity, so that only the signature counts.
    let dates = CertificateBlock(pem).first_second();
    let (Ok(leaf), Some(seconds)) = (ParsedCertificate::try_from(leaf), dates) else {
        return Verified::Unreadable(PATH);
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let verified = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &leaf, &roots, between, now, SIGNATURES,
    );
    match verified {
        Ok(())
        | Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Verified::Yes,
        Err(_) => Verified::No,
    }
}

/// A file with certificates, and often their key.
struct CertificateBlock<'a>(&'a [u8]);

impl CertificateBlock<'_> {
    /// The first second of the first certificate's validity, since 1970.
    fn first_second(&self) -> Option<u64> {
        let certificates = read_certificates(self.0).ok()?;
        u64::try_from(certificates.first()?.not_before).ok()
    }
}
