use rcgen::{CustomExtension, ExtendedKeyUsagePurpose};

use super::*;
use crate::tls::pki::{Authority, Leaf, Scratch, openssl};

const URL: &str = "http://ocsp.example/path";

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn access(url: &str) -> CustomExtension {
    let ocsp = encode(OID, b"\x2b\x06\x01\x05\x05\x07\x30\x01");
    let content = encode(SEQUENCE, &encode(SEQUENCE, &[ocsp, encode(0x86, url.as_bytes())].concat()));
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

/// An authority that answers by `openssl ocsp`.
struct Responder {
    scratch: Scratch,
    authority: Authority,
    leaf: Leaf,
}

impl Responder {
    fn new() -> Self {
        let authority = Authority::new("servers");
        let leaf = authority.issue(&["localhost"], |params| params.custom_extensions.push(access(URL)));
        let scratch = Scratch::new();
        scratch.write("ca.pem", authority.issuer.pem());
        scratch.write("ca.key", authority.issuer.key().serialize_pem());
        Self { scratch, authority, leaf }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.certificate.clone(), self.authority.issuer.der().clone()]
    }

    /// The answer to `question`, signed by `signer`, with a status as `openssl ca` writes it.
    fn answer(&self, question: &OcspQuestion, signer: &str, status: &str, more: &str) -> Vec<u8> {
        let parsed = facts::parse(&self.leaf.certificate).unwrap();
        let serial = crate::tls::names::hex(parsed.raw_serial()).to_uppercase();
        self.scratch.write("index", format!("{status}\t{serial}\tunknown\t/CN=x\n"));
        self.scratch.write("request", &question.request);
        let path = |name: &str| self.scratch.path(name).display().to_string();
        let (index, ca, request, answer) = (path("index"), path("ca.pem"), path("request"), path("answer"));
        let (certificate, key) = (path(&format!("{signer}.pem")), path(&format!("{signer}.key")));
        let files =
            format!("-index {index} -CA {ca} -rsigner {certificate} -rkey {key} -reqin {request} -respout {answer}");
        openssl(&format!("ocsp {files} {more}"), b"");
        std::fs::read(self.scratch.path("answer")).unwrap()
    }
}

const GOOD: &str = "V\t350101000000Z\t";
const REVOKED: &str = "R\t350101000000Z\t250101000000Z";

#[test]
fn an_answer_of_openssl_is_accepted() {
    let responder = Responder::new();
    let question = OcspQuestion::about(&responder.chain()).unwrap();
    assert_eq!(question.url.as_deref(), Some(URL));
    let der = responder.answer(&question, "ca", GOOD, "-ndays 4");
    let answer = question.accept(&der, now_s()).unwrap();
    assert_eq!(answer.der, der);
    assert_eq!(answer.next_update_s - answer.this_update_s, 4 * 86_400);
    assert_eq!(answer.refresh_at_s() - answer.this_update_s, 2 * 86_400);
    assert_eq!(question.accept(&der, now_s() + 5 * 86_400), Err(OcspFault::Outdated));
    assert_eq!(question.accept(&der, now_s() - 86_400), Err(OcspFault::Outdated));
}

#[test]
fn only_a_good_certificate_is_stapled() {
    let responder = Responder::new();
    let question = OcspQuestion::about(&responder.chain()).unwrap();
    let der = responder.answer(&question, "ca", REVOKED, "-ndays 1");
    assert_eq!(question.accept(&der, now_s()), Err(OcspFault::Revoked));
    let other = Responder::new();
    let mut forgetful = OcspQuestion::about(&responder.chain()).unwrap();
    responder.scratch.write("index", "");
    let der = {
        let lost = Responder {
            leaf: responder.authority.issue(&["other"], |_| {}),
            authority: Authority::new("x"),
            scratch: responder.scratch,
        };
        lost.answer(&question, "ca", GOOD, "-ndays 1")
    };
    assert_eq!(question.accept(&der, now_s()), Err(OcspFault::Unknown));
    forgetful.id = OcspQuestion::about(&other.chain()).unwrap().id;
    assert_eq!(forgetful.accept(&der, now_s()), Err(OcspFault::OtherCertificate));
}

#[test]
fn a_delegate_may_sign_and_nobody_else() {
    let responder = Responder::new();
    let question = OcspQuestion::about(&responder.chain()).unwrap();
    let stranger = Authority::new("servers");
    let purpose = |purpose: &ExtendedKeyUsagePurpose| {
        let purpose = purpose.clone();
        move |params: &mut rcgen::CertificateParams| params.extended_key_usages = vec![purpose]
    };
    for (issuer, usage, expected) in [
        (&responder.authority, ExtendedKeyUsagePurpose::OcspSigning, true),
        (&responder.authority, ExtendedKeyUsagePurpose::ServerAuth, false),
        (&stranger, ExtendedKeyUsagePurpose::OcspSigning, false),
    ] {
        let signer = issuer.issue(&[], purpose(&usage));
        responder.scratch.write("signer.pem", &signer.pem);
        responder.scratch.write("signer.key", signer.key.serialize_pem());
        let der = responder.answer(&question, "signer", GOOD, "-ndays 1");
        let outcome = question.accept(&der, now_s());
        assert_eq!(outcome.is_ok(), expected);
        assert!(expected || outcome == Err(OcspFault::Signature));
    }
}

#[test]
fn a_changed_answer_is_refused_and_never_a_panic() {
    let responder = Responder::new();
    let question = OcspQuestion::about(&responder.chain()).unwrap();
    let der = responder.answer(&question, "ca", GOOD, "-ndays 1 -resp_no_certs");
    assert!(question.accept(&der, now_s()).is_ok());
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0x01;
        // The NULL beside a hash may be missing or odd: it says nothing.
        if let Ok(answer) = question.accept(&changed, now_s()) {
            assert_eq!(answer.next_update_s, question.accept(&der, now_s()).unwrap().next_update_s);
        }
        assert!(question.accept(&der[..at], now_s()).is_err());
    }
    for number in [1, 2, 3, 5, 6] {
        let fault = question.accept(&[0x30, 3, 0x0a, 1, number], now_s()).unwrap_err();
        assert_eq!(fault, OcspFault::Status(number));
        assert!(fault.to_string().contains("OCSP responder"));
    }
}

#[test]
fn a_chain_that_can_not_be_asked_about_says_why() {
    let responder = Responder::new();
    let chain = responder.chain();
    assert!(OcspQuestion::about(&chain[..1]).unwrap_err().contains("put it behind"));
    let swapped = [chain[0].clone(), Authority::new("other").issuer.der().clone()];
    assert!(OcspQuestion::about(&swapped).unwrap_err().contains("has to stand second"));
    for url in ["https://ocsp.example/", "ldap://ocsp.example/"] {
        let leaf = responder.authority.issue(&["x"], |params| params.custom_extensions.push(access(url)));
        assert_eq!(OcspQuestion::about(&[leaf.certificate, chain[1].clone()]).unwrap().url, None);
    }
}

#[test]
fn times_are_read_as_they_are_written() {
    for (text, expected) in [
        ("19700101000000Z", Some(0)),
        ("20000229120000Z", Some(951_825_600)),
        ("20261125140000Z", Some(1_795_615_200)),
        ("19691231235959Z", Some(-1)),
        ("20261325140000Z", None),
        ("20261125140000", None),
        ("20261125140000+01", None),
        ("2026112514000xZ", None),
        ("", None),
    ] {
        assert_eq!(seconds(text.as_bytes()), expected, "{text}");
    }
}
