//! Sections `[acme.NAME]`: certificates that are ordered from an authority.

use std::path::{Path, PathBuf};

use breakwater_acme::{Challenge, Options};
use breakwater_transport::tls::KeyPassword;

use crate::gather::Section;
use crate::listener::read;
use crate::raw::{Fault, Origin};
use crate::setting::Applies::Live;
use crate::surroundings::Surroundings;
use crate::{Kind, Setting, Value};

/// What the rows of the table store into.
#[derive(Default)]
pub(crate) struct Draft {
    options: Options,
    key_id: Box<str>,
    hmac_file: Option<PathBuf>,
}

/// Stores a value of a section; paths in it are relative to the directory.
pub(crate) type AcmeStore = fn(&mut Draft, &Value, &Path) -> Result<(), String>;

const PATH: Kind = Kind::Shape("a path");

const fn row(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    store: AcmeStore,
) -> Setting<AcmeStore> {
    Setting { key, kind, word: None, default, applies: Live, meaning, store }
}

/// Every setting of such a section.
pub(crate) const ACME_TABLE: &[Setting<AcmeStore>] = &[
    row(
        "domains",
        Kind::List("names, such as mqtt.example.com"),
        "",
        "Names in the certificate. Each has to lead to this broker.",
        |to, value, _| {
            to.options.domains = value.items().iter().map(|item| domain(item)).collect::<Result<_, _>>()?;
            Ok(())
        },
    ),
    row("email", Kind::Text { bytes_max: 254 }, "", "Address that the authority may write to.", |to, value, _| {
        to.options.email = value.text().into();
        Ok(())
    }),
    row(
        "terms_agreed",
        Kind::Flag,
        "false",
        "You agree to the authority's terms of service. Without that nothing is ordered.",
        |to, value, _| {
            to.options.terms_agreed = value.number() != 0;
            Ok(())
        },
    ),
    row(
        "challenge",
        Kind::Choice(&["tls-alpn-01", "http-01"]),
        "tls-alpn-01",
        "How it is proven that the names lead here: the authority comes to port 443, which a TLS listener of this broker answers \
         (`tls-alpn-01`), or to port 80, which is answered at `bind` (`http-01`).",
        |to, value, _| {
            to.options.challenge = if value.number() == 0 { Challenge::TlsAlpn01 } else { Challenge::Http01 };
            Ok(())
        },
    ),
    row(
        "bind",
        Kind::Shape("a port, or ADDRESS:PORT"),
        "80",
        "Where `http-01` is answered, only while an order is under way. Another port than 80 needs a forward.",
        |to, value, _| {
            if !breakwater_acme::is_place(value.text()) {
                return Err("takes a port, ADDRESS:PORT or [IPV6]:PORT".into());
            }
            to.options.bind = value.text().into();
            Ok(())
        },
    ),
    row(
        "directory",
        Kind::Shape("an https:// URL"),
        "https://acme-v02.api.letsencrypt.org/directory",
        "The authority: URL of its ACME directory.",
        |to, value, _| {
            if !value.text().starts_with("https://") {
                return Err("takes the URL of an ACME directory, which begins with https://".into());
            }
            to.options.directory = value.text().into();
            Ok(())
        },
    ),
    row(
        "directory_ca",
        PATH,
        "",
        "Authority of the ACME server's own certificate (PEM), for a private one; without it, those that the system trusts.",
        |to, value, base| {
            to.options.directory_ca = (!value.text().is_empty()).then(|| read::path(value.text(), base));
            Ok(())
        },
    ),
    row(
        "eab_key_id",
        Kind::Text { bytes_max: 1024 },
        "",
        "Identifier of the account to bind to (external account binding), for authorities that want one.",
        |to, value, _| {
            to.key_id = value.text().into();
            Ok(())
        },
    ),
    row(
        "eab_hmac_file",
        PATH,
        "",
        "A file that holds the key of that account (base64url), as the authority gives it.",
        |to, value, base| {
            to.hmac_file = (!value.text().is_empty()).then(|| read::path(value.text(), base));
            Ok(())
        },
    ),
];

/// Most names in one certificate: what Let's Encrypt allows.
const DOMAINS_MAX: usize = 100;

/// A name that an authority could look up.
fn domain(text: &str) -> Result<Box<str>, String> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    if name.starts_with("*.") {
        return Err(format!("{text}: names with * need dns-01, which is not there; name each host"));
    }
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > 253 || number || !name.split('.').all(label) {
        let what =
            "is no name of a host: take letters, digits, hyphens and dots (others in their xn-- form), and no address";
        return Err(format!("{text:?} {what}"));
    }
    Ok(name.into())
}

/// One section as a whole. All faults at once.
pub(crate) fn finish(
    name: &str,
    section: &Section,
    around: &Surroundings,
    base: &Path,
    faults: &mut Vec<Fault>,
) -> Options {
    let mut draft = Draft::default();
    let mut fault = |origin: Option<Origin>, key: &str, what: String| {
        let origin = origin.or_else(|| section.origin.clone()).unwrap_or(Origin::Default);
        faults.push(Fault { origin, key: format!("acme.{name}.{key}"), what });
    };
    let mut spoiled = section.spoiled;
    for (row, setting) in ACME_TABLE.iter().enumerate() {
        if let Some(default) = setting.default_value() {
            let stored = (setting.store)(&mut draft, &default, base);
            debug_assert!(stored.is_ok(), "{}: {stored:?}", setting.key);
        }
        for given in section.given(row) {
            let base = if matches!(given.origin, Origin::File { .. }) { base } else { &around.directory };
            if let Err(what) = (setting.store)(&mut draft, &given.value, base) {
                fault(Some(given.origin.clone()), setting.key, what);
                spoiled = true;
            }
        }
    }
    let Draft { mut options, key_id, hmac_file } = draft;
    options.name = name.into();
    options.folder = folder(&around.data, name);
    if options.domains.is_empty() && !spoiled {
        fault(None, "domains", "is missing: name the hosts that the certificate is for".into());
    }
    if options.domains.len() > DOMAINS_MAX {
        fault(None, "domains", format!("are more than {DOMAINS_MAX}: spread them over several sections"));
    }
    if !options.terms_agreed && !spoiled {
        let what = "has to be true: read the terms of service that the authority names, and agree to them".into();
        fault(None, "terms_agreed", what);
    }
    match (key_id.is_empty(), hmac_file) {
        (true, None) => {}
        (true, Some(_)) => fault(None, "eab_hmac_file", "needs eab_key_id: the authority gives both".into()),
        (false, None) => fault(None, "eab_key_id", "needs eab_hmac_file: the authority gives both".into()),
        (false, Some(file)) => match around.secret(&file) {
            Ok(secret) => options.external_account = Some((key_id, KeyPassword(secret))),
            Err(what) => fault(None, "eab_hmac_file", what),
        },
    }
    options
}

/// Where the files of a section are.
pub(crate) fn folder(data: &Path, name: &str) -> PathBuf {
    data.join("tls").join("acme").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{faults, good};

    const LEAST: &str = "[acme.office]\ndomains = 'MQTT.example.com'\nterms_agreed = true\n";

    #[test]
    fn a_listener_shows_the_certificate_of_the_section_that_it_names() {
        let resolved = good(&format!("{LEAST}[listeners.tls.default]\ntls.acme = 'office'\n"));
        let [options] = &resolved.acme[..] else { panic!("{:?}", resolved.acme) };
        assert_eq!((&*options.name, &*options.domains), ("office", &["mqtt.example.com".into()][..]));
        assert_eq!(&*options.directory, "https://acme-v02.api.letsencrypt.org/directory");
        assert_eq!((options.challenge, &*options.bind), (Challenge::TlsAlpn01, "80"));
        let listener = resolved.listeners.iter().find(|listener| &*listener.options.name == "tls.default");
        let listener = listener.expect("it is there");
        let files = &listener.options.tls.as_ref().expect("it has TLS").certificates[0];
        assert_eq!(
            (&files.certificate, &files.key),
            (&options.folder.join("pair.pem"), &options.folder.join("pair.pem"))
        );
        assert!(listener.acme.as_deref() == Some("office") && !listener.self_made);
        assert!(!resolved.remarks.iter().any(|remark| remark.contains("acme")), "{:?}", resolved.remarks);
    }

    #[test]
    fn a_section_that_no_listener_names_is_remarked() {
        assert!(good(LEAST).remarks.iter().any(|remark| remark.contains("tls.acme = \"office\"")));
    }

    #[test]
    fn what_can_not_work_is_told_at_once() {
        for (text, word) in [
            ("[acme.a]\n", "acme.a.domains: is missing"),
            ("[acme.a]\ndomains = 'b.example'\n", "terms_agreed: has to be true"),
            ("[acme.a]\ndomains = '*.b.example'\nterms_agreed = true\n", "dns-01"),
            ("[acme.a]\ndomains = '192.0.2.1'\nterms_agreed = true\n", "no name of a host"),
            ("[acme.a]\ndomains = 'größe.example'\nterms_agreed = true\n", "xn--"),
            ("[acme.a]\ndomains = 'b.example'\nterms_agreed = true\nbind = 'x'\n", "ADDRESS:PORT"),
            ("[acme.a]\ndomains = 'b.example'\nterms_agreed = true\ndirectory = 'http://c/'\n", "https://"),
            ("[acme.a]\ndomains = 'b.example'\nterms_agreed = true\neab_key_id = 'k'\n", "needs eab_hmac_file"),
            ("[acme.a]\ndomain = 'b.example'\n", "did you mean domains?"),
            ("[listeners.tls.default]\ntls.acme = 'a'\n", "there is no section [acme.a]"),
            (
                "[acme.a]\ndomains = 'b.example'\nterms_agreed = true\n\
                 [listeners.tls.default]\ntls.acme = 'a'\ntls.certificate = 'c'\ntls.key = 'k'\n",
                "tls.acme",
            ),
        ] {
            let faults = faults(text);
            assert!(faults.iter().any(|fault| fault.contains(word)), "{text}: {faults:?}");
        }
    }
}
