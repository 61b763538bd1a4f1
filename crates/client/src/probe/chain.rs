//! A certificate in one line.

use breakwater_transport::tls::CertificateFacts;
use rustls::pki_types::CertificateDer;

/// Whose it is, who signed it, and until when it is good.
pub(super) fn line(der: &[u8]) -> String {
    let Some(facts) = CertificateFacts::of(&CertificateDer::from(der)) else {
        return "a certificate that can't be read".into();
    };
    let until = jiff::Timestamp::from_second(facts.not_after_s).map(|until| until.strftime("%Y-%m-%d").to_string());
    let signer = if facts.self_signed { "itself".to_owned() } else { facts.issuer.to_string() };
    format!("{}, signed by {signer}, good until {}", facts.subject, until.unwrap_or_default())
}
