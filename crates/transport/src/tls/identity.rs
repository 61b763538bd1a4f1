//! Who a client is by its certificate.

use breakwater_contract::{Certificate, Identity};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use crate::tls::{CertificateField, TlsFault, TlsOptions, facts, names};

/// Longest user name or client identifier that a certificate may give.
const TEXT_MAX: usize = 512;

/// The identity in the verified chain `peer`, as the listener's options want it used.
///
/// # Errors
/// The options want a field as user name or client identifier, and the certificate has none that may be used as one: no
/// such field, or one with characters that mean something in topics or in logs.
pub fn identity(peer: &[CertificateDer<'_>], options: &TlsOptions) -> Result<Identity, TlsFault> {
    let leaf = peer.first().ok_or(TlsFault::CertificateMissing)?;
    let parsed = facts::parse(leaf).ok_or_else(|| TlsFault::CertificateBad("it can't be decoded".into()))?;
    let certificate = describe(leaf, &parsed);
    let username = options.username_from.map(|field| pick(&certificate, field, "user name")).transpose()?;
    let client_id = options.client_id_from.map(|field| pick(&certificate, field, "client identifier")).transpose()?;
    Ok(Identity { certificate, username, client_id })
}

fn describe(leaf: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Certificate {
    Certificate {
        common_name: names::common_name(parsed.subject()),
        subject: names::distinguished(parsed.subject()),
        serial: facts::serial(parsed),
        fingerprint: facts::fingerprint(leaf),
        alternative_names: names::alternative(parsed),
    }
}

fn pick(certificate: &Certificate, field: CertificateField, role: &str) -> Result<Box<str>, TlsFault> {
    let (name, text) = match field {
        CertificateField::CommonName => ("common name", &*certificate.common_name),
        CertificateField::Subject => ("subject", &*certificate.subject),
        CertificateField::AlternativeName => {
            ("alternative name", certificate.alternative_names.first().map_or("", |name| name))
        }
        CertificateField::Serial => ("serial number", &*certificate.serial),
        CertificateField::Fingerprint => ("fingerprint", &*certificate.fingerprint),
    };
    if text.is_empty() {
        return Err(TlsFault::Identity(
            format!("it has no {name} that could be the {role} (none, several, or not text)").into(),
        ));
    }
    if text.len() > TEXT_MAX {
        return Err(TlsFault::Identity(format!("its {name} is too long to be the {role}").into()));
    }
    // A name goes into access rules and topics: there these characters would reach further than the name's owner may.
    if text.chars().any(|letter| letter.is_control() || is_deceptive(letter) || matches!(letter, '+' | '#' | '/')) {
        return Err(TlsFault::Identity(
            format!("its {name} can't be the {role}: it has control characters or one of + # /").into(),
        ));
    }
    Ok(text.into())
}

/// Letters that are not seen, or that turn what follows around.
fn is_deceptive(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, DnValue, SanType};

    use super::*;
    use crate::tls::CertificateFacts;
    use crate::tls::pki::{Authority, openssl};

    fn options(username_from: CertificateField) -> TlsOptions {
        TlsOptions { username_from: Some(username_from), ..TlsOptions::default() }
    }

    fn named(name: impl Into<DnValue>) -> CertificateDer<'static> {
        let name = name.into();
        Authority::new("clients")
            .issue(&[], |params| params.distinguished_name.push(DnType::CommonName, name))
            .certificate
    }

    fn made_by_openssl(subject: &str) -> CertificateDer<'static> {
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -utf8 -multivalue-rdn -subj";
        // The subject may hold blanks.
        let output = std::process::Command::new("openssl").args(arguments.split(' ')).arg(subject).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        pem::parse(output.stdout).unwrap().into_contents().into()
    }

    #[test]
    fn each_field_can_be_the_name() {
        let leaf = Authority::new("clients").issue(&["dev.example"], |params| {
            params.distinguished_name.push(DnType::CommonName, "device 7");
            params.distinguished_name.push(DnType::OrganizationName, "Plant, north");
            params.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
            params.subject_alt_names.push(SanType::IpAddress("2001:db8::7".parse().unwrap()));
            params.serial_number = Some(vec![0x00, 0xab, 0x01].into());
        });
        let chain = [leaf.certificate];
        let fingerprint = facts::fingerprint(&chain[0]);
        for (field, expected) in [
            (CertificateField::CommonName, "device 7"),
            (CertificateField::Subject, "O=Plant\\, north,CN=device 7"),
            (CertificateField::AlternativeName, "dev.example"),
            (CertificateField::Serial, "ab01"),
            (CertificateField::Fingerprint, &fingerprint),
        ] {
            let who = identity(&chain, &options(field)).unwrap();
            assert_eq!(who.username.as_deref(), Some(expected));
            assert_eq!(who.client_id, None);
        }
        let both =
            TlsOptions { client_id_from: Some(CertificateField::Serial), ..options(CertificateField::CommonName) };
        let who = identity(&chain, &both).unwrap();
        assert_eq!(who.client_id.as_deref(), Some("ab01"));
        assert_eq!(who.certificate.alternative_names, ["dev.example", "a@b.example", "2001:db8::7"].map(Box::from));
        assert_eq!(identity(&[], &both), Err(TlsFault::CertificateMissing));
    }

    #[test]
    fn a_name_that_means_more_than_a_name_is_refused() {
        for name in [
            "+",
            "#",
            "a/b",
            "/",
            "a+b",
            "../x",
            "nul\0nul",
            "line\nend",
            "bell\u{7}",
            "\u{85}",
            "\u{202e}dexit",
            "a\u{200b}b",
            "",
        ] {
            let chain = [named(name)];
            let fault = identity(&chain, &options(CertificateField::CommonName)).unwrap_err();
            assert!(matches!(fault, TlsFault::Identity(_)), "{name:?}");
            assert!(!fault.to_string().chars().any(char::is_control));
            // Without that use of it the certificate is as good as any.
            assert_eq!(&*identity(&chain, &TlsOptions::default()).unwrap().certificate.common_name, name);
        }
        let long = "x".repeat(600);
        assert!(identity(&[named(long.as_str())], &options(CertificateField::CommonName)).is_err());
        for name in ["${clientid}", "%u", "' or 1=1", "*", "müller", "a.b-c_d@e"] {
            assert_eq!(
                identity(&[named(name)], &options(CertificateField::CommonName)).unwrap().username.as_deref(),
                Some(name)
            );
        }
    }

    #[test]
    fn a_common_name_in_another_alphabet_is_read() {
        let bmp = DnValue::BmpString("größe".try_into().unwrap());
        assert_eq!(&*identity(&[named(bmp)], &TlsOptions::default()).unwrap().certificate.common_name, "größe");
    }

    #[test]
    fn one_of_several_common_names_is_nobody() {
        let chain = [made_by_openssl("/CN=alice/CN=admin")];
        assert!(identity(&chain, &options(CertificateField::CommonName)).is_err());
        let who = identity(&chain, &TlsOptions::default()).unwrap();
        assert_eq!(&*who.certificate.subject, "CN=admin,CN=alice");
        assert_eq!(&*who.certificate.common_name, "");
    }

    #[test]
    fn subjects_are_written_as_openssl_writes_them() {
        for subject in [
            "/C=DE/ST=Nord/L=Kiel/O=A, \"B\" <C>/OU=x;y/CN=name",
            "/DC=example/DC=org/UID=u1/CN=two  blanks/emailAddress=a@b.example",
            "/O=one+OU=two/CN= lead and trail ",
            "/CN=#hash/title=Dr/GN=Anna/SN=Meier/serialNumber=77",
            "/CN=back\\\\slash and equal=sign",
            "/CN=größe",
        ] {
            let leaf = made_by_openssl(subject);
            let text = openssl("x509 -inform der -noout -subject -nameopt RFC2253,-esc_msb", &leaf);
            let expected = String::from_utf8(text).unwrap();
            let expected = expected.trim_end_matches('\n').strip_prefix("subject=").unwrap();
            assert_eq!(&*CertificateFacts::of(&leaf).unwrap().subject, expected);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let good = named("x");
        for cut in 0..good.len() {
            assert!(identity(&[good[..cut].to_vec().into()], &TlsOptions::default()).is_err());
        }
        for at in 0..good.len() {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0x55;
            let _ = identity(&[bytes.into()], &options(CertificateField::Subject));
        }
    }
}
