//! As much of X.509 (RFC 5280) as first boot asks: whether a file holds a
//! certificate at all, and from when until when it is valid. Signatures are for
//! the programs that use the certificate.

use base64::Engine as _;

/// Largest certificate file or bundle that is read, in bytes.
const MAXIMUM_PEM: usize = 1 << 20;

/// What is known about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// First second of its validity, in seconds since 1970 (UTC).
    pub not_before: i64,
    /// Last second of its validity, in seconds since 1970 (UTC).
    pub not_after: i64,
}

/// Why a certificate cannot be used. Nothing of its content is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No block of PEM begins with `BEGIN CERTIFICATE`.
    #[error("there is no certificate in PEM in it")]
    NotPem,
    /// A private key stands where a certificate should.
    #[error("it holds a private key instead of a certificate")]
    PrivateKey,
    /// The PEM block does not hold X.509.
    #[error("its certificate cannot be read as X.509")]
    NotX509,
    /// Larger than 1 MiB.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// The clock stands before the validity; or is wrong.
    #[error("the certificate is not yet valid; is the clock right?")]
    NotYetValid,
    /// The validity is over.
    #[error("the certificate has expired")]
    Expired,
}

/// Reads all certificates of a bundle in PEM.
///
/// # Errors
/// When there is none, or one of them is no X.509.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    if pem.len() > MAXIMUM_PEM {
        return Err(CertificateError::TooLarge);
    }
    let text = String::from_utf8_lossy(pem);
    let mut certificates = Vec::new();
    let mut body: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        match line {
            "-----BEGIN CERTIFICATE-----" => body = Some(String::new()),
            "-----END CERTIFICATE-----" => {
                let body = body.take().ok_or(CertificateError::NotX509)?;
                let der = base64::engine::general_purpose::STANDARD
                    .decode(body)
                    .map_err(|_| CertificateError::NotX509)?;
                certificates.push(certificate(&der).ok_or(CertificateError::NotX509)?);
            }
            _ => {
                if let Some(body) = &mut body {
                    body.push_str(line);
                }
            }
        }
    }
    if body.is_some() {
        return Err(CertificateError::NotX509);
    }
    if certificates.is_empty() {
        let key = text.contains("PRIVATE KEY-----");
        return Err(if key {
            CertificateError::PrivateKey
        } else {
            CertificateError::NotPem
        });
    }
    Ok(certificates)
}

/// Checks the certificate of a node: the first in the file counts.
///
/// `now` is in seconds since 1970 (UTC).
///
/// # Errors
/// When it is none, or not valid at that time.
pub fn check_node_certificate(pem: &[u8], now: i64) -> Result<Certificate, CertificateError> {
    let certificates = read_certificates(pem)?;
    let first = *certificates.first().ok_or(CertificateError::NotPem)?;
    if now < first.not_before {
        return Err(CertificateError::NotYetValid);
    }
    if now > first.not_after {
        return Err(CertificateError::Expired);
    }
    Ok(first)
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Takes one element of DER (X.690) off the front: its tag and content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [tag, first, after @ ..] = *rest else {
        return None;
    };
    let (length, after) = if *first < 0x80 {
        (usize::from(*first), after)
    } else {
        // Four bytes of length reach further than any certificate.
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || after.len() < count {
            return None;
        }
        let (digits, after) = after.split_at(count);
        let length = digits
            .iter()
            .fold(0u64, |length, digit| length << 8 | u64::from(*digit));
        (usize::try_from(length).ok()?, after)
    };
    if after.len() < length {
        return None;
    }
    let (content, after) = after.split_at(length);
    *rest = after;
    Some((*tag, content))
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest)
        .filter(|(found, _)| *found == tag)
        .map(|(_, content)| content)
}

/// The validity of a certificate in DER, its outer structure checked.
fn certificate(der: &[u8]) -> Option<Certificate> {
    let mut outer = der;
    let mut whole = expect(&mut outer, SEQUENCE)?;
    if !outer.is_empty() {
        return None;
    }
    let mut signed = expect(&mut whole, SEQUENCE)?;
    expect(&mut whole, SEQUENCE)?;
    expect(&mut whole, BIT_STRING)?;
    if signed.first() == Some(&VERSION) {
        element(&mut signed)?;
    }
    expect(&mut signed, INTEGER)?;
    expect(&mut signed, SEQUENCE)?;
    expect(&mut signed, SEQUENCE)?;
    let mut validity = expect(&mut signed, SEQUENCE)?;
    expect(&mut signed, SEQUENCE)?;
    expect(&mut signed, SEQUENCE)?;
    let not_before = time(element(&mut validity)?)?;
    let not_after = time(element(&mut validity)?)?;
    Some(Certificate {
        not_before,
        not_after,
    })
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5).
fn time((tag, content): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME if text.len() == 12 => {
            let year = digits(text, 0..2)?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &text[2..],
            )
        }
        GENERALIZED_TIME if text.len() == 14 => (digits(text, 0..4)?, &text[4..]),
        _ => return None,
    };
    let (month, day) = (digits(rest, 0..2)?, digits(rest, 2..4)?);
    let (hour, minute, second) = (
        digits(rest, 4..6)?,
        digits(rest, 6..8)?,
        digits(rest, 8..10)?,
    );
    let plausible = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    plausible.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn digits(text: &str, range: std::ops::Range<usize>) -> Option<i64> {
    let part = text.get(range)?;
    part.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| part.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counted in years that begin in March, so that a leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((1970, 1, 2), 1),
            ((1972, 2, 29), 789),
            ((2000, 3, 1), 11_017),
            ((2038, 1, 19), 24_855),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time((UTC_TIME, b"700101000001Z")), Some(1));
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(
            time((GENERALIZED_TIME, b"20500101000000Z")),
            Some(2_524_608_000)
        );
        for bad in [
            &b"7001010000Z"[..],
            b"700101000001",
            b"701301000000Z",
            b"7001x1000001Z",
        ] {
            assert_eq!(time((UTC_TIME, bad)), None);
        }
    }

    #[test]
    fn a_real_certificate_is_read_and_its_validity_counts() {
        let pem = include_bytes!("testdata/ca.pem");
        let certificates = read_certificates(pem).unwrap();
        assert_eq!(certificates.len(), 1);
        let Certificate {
            not_before,
            not_after,
        } = certificates[0];
        assert_eq!(not_after - not_before, 3650 * 86_400);
        assert!(check_node_certificate(pem, not_before).is_ok());
        assert!(check_node_certificate(pem, not_after).is_ok());
        assert_eq!(
            check_node_certificate(pem, not_before - 1),
            Err(CertificateError::NotYetValid)
        );
        assert_eq!(
            check_node_certificate(pem, not_after + 1),
            Err(CertificateError::Expired)
        );
        let twice = [&pem[..], &pem[..]].concat();
        assert_eq!(read_certificates(&twice).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        for (text, expected) in [
            ("", CertificateError::NotPem),
            ("hello", CertificateError::NotPem),
            (
                "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
                CertificateError::PrivateKey,
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                CertificateError::NotX509,
            ),
            (
                "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
                CertificateError::NotX509,
            ),
            (
                "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
                CertificateError::NotX509,
            ),
            ("-----END CERTIFICATE-----\n", CertificateError::NotX509),
        ] {
            assert_eq!(read_certificates(text.as_bytes()), Err(expected), "{text}");
        }
    }

    #[test]
    fn no_mutation_of_a_certificate_panics() {
        let pem = String::from_utf8(include_bytes!("testdata/ca.pem").to_vec()).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD
            .decode(body)
            .unwrap();
        assert!(certificate(&der).is_some());
        for index in 0..der.len() {
            assert!(certificate(&der[..index]).is_none(), "cut at {index}");
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut mutated = der.clone();
                mutated[index] = value;
                let _ = certificate(&mutated);
            }
        }
    }
}
