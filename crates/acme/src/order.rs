//! One order, from the account to the files.

use std::time::Duration;

use breakwater_transport::tls::{CertificateFacts, Challenges, Proof};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::fault::Fault;
use crate::folder::{Folder, KeptAccount};
use crate::http::Https;
use crate::responder::Responder;
use crate::{Challenge, Options};

/// For the authority to come and look, and to issue. It says itself how often it wants to be asked.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(180));

/// Orders a certificate, proves the names, and puts the files into place. `renews`: the authority has said when it wants the
/// present one to be renewed, and likes to hear which one that is.
pub(crate) async fn order(
    options: &Options,
    folder: &Folder,
    challenges: &Challenges,
    renews: bool,
) -> Result<CertificateFacts, Fault> {
    match attempt(options, folder, challenges, renews).await {
        // One for trying out forgets its accounts when it is started again.
        Err(fault) if fault.account_gone => {
            folder.forget_account();
            attempt(options, folder, challenges, renews).await
        }
        done => done,
    }
}

async fn attempt(
    options: &Options,
    folder: &Folder,
    challenges: &Challenges,
    renews: bool,
) -> Result<CertificateFacts, Fault> {
    let account = account(options, folder).await?;
    let mut order = begin(options, folder, &account, renews).await?;
    let proofs = prove(options, challenges, &mut order).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        return Err(why(options, &mut order, ready.err()).await);
    }
    drop(proofs);
    let key = KeyPair::generate().map_err(|error| Fault::new(format!("no key can be made: {error}")))?;
    order.finalize_csr(&request(options, &key)?).await.map_err(|error| Fault::of(&error, options))?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(|error| Fault::of(&error, options))?;
    folder.put_pair(&key.serialize_pem(), &chain).map_err(Fault::new)
}

/// The account of an earlier order, or a new one.
pub(crate) async fn account(options: &Options, folder: &Folder) -> Result<Account, Fault> {
    let failed = |error: Error| Fault::of(&error, options);
    let contact = (!options.email.is_empty()).then(|| format!("mailto:{}", options.email));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let kept = folder.account().filter(|kept| *kept.directory == *options.directory);
    if let Some(mut kept) = kept
        && let Ok(credentials) = serde_json::from_value(kept.credentials.clone())
    {
        let builder = Account::builder_with_http(Box::new(Https::new(options)?));
        let account = builder.from_credentials(credentials).await.map_err(failed)?;
        if *kept.email != *options.email {
            account.update_contacts(&contact).await.map_err(failed)?;
            kept.email = options.email.to_string();
            folder.put_account(&kept).map_err(Fault::new)?;
        }
        return Ok(account);
    }
    let wanted =
        NewAccount { contact: &contact, terms_of_service_agreed: options.terms_agreed, only_return_existing: false };
    let bound = options.external_account.as_ref().map(|(id, key)| external(options, id, &key.0)).transpose()?;
    let builder = Account::builder_with_http(Box::new(Https::new(options)?));
    let created = builder.create(&wanted, options.directory.to_string(), bound.as_ref()).await;
    let (account, credentials) = created.map_err(failed)?;
    let credentials = serde_json::to_value(credentials).map_err(|fault| Fault::new(fault.to_string()))?;
    let kept = KeptAccount { directory: options.directory.to_string(), email: options.email.to_string(), credentials };
    folder.put_account(&kept).map_err(Fault::new)?;
    Ok(account)
}

fn external(options: &Options, id: &str, key: &str) -> Result<ExternalAccountKey, Fault> {
    let key = crate::eab_key(key).ok_or_else(|| {
        Fault::new(format!("acme.{}.eab_hmac_file holds no key in base64url, as authorities give it", options.name))
    })?;
    Ok(ExternalAccountKey::new(id.to_owned(), &key))
}

async fn begin(options: &Options, folder: &Folder, account: &Account, renews: bool) -> Result<Order, Fault> {
    let names: Vec<Identifier> = options.domains.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    if renews
        && let Ok(leaf) = CertificateDer::from_pem_file(folder.pair())
        && let Ok(replaced) = CertificateIdentifier::try_from(&leaf)
        && let Ok(order) = account.new_order(&NewOrder::new(&names).replaces(replaced)).await
    {
        return Ok(order);
    }
    // Not every authority likes to hear it, and none demands it.
    account.new_order(&NewOrder::new(&names)).await.map_err(|error| Fault::of(&error, options))
}

/// What answers the authority's questions, as long as it is there.
struct Proofs {
    _alpn: Vec<Proof>,
    _responder: Option<Responder>,
}

/// Makes everything ready for the authority to come, and tells it.
async fn prove(options: &Options, challenges: &Challenges, order: &mut Order) -> Result<Proofs, Fault> {
    let failed = |error: Error| Fault::of(&error, options);
    let responder = match options.challenge {
        Challenge::Http01 => Some(Responder::open(options)?),
        Challenge::TlsAlpn01 => None,
    };
    let (kind, word) = match options.challenge {
        Challenge::Http01 => (ChallengeType::Http01, "http-01"),
        Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut alpn = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Pending => {}
            // Proven a while ago, and remembered.
            AuthorizationStatus::Valid => continue,
            other => return Err(Fault::new(format!("the authority doesn't want to look at {name}: {other:?}"))),
        }
        let mut challenge = authorization.challenge(kind.clone()).ok_or_else(|| {
            Fault::new(format!(
                "the authority doesn't offer {word} for {name}: choose another acme.{}.challenge",
                options.name
            ))
        })?;
        let proof = challenge.key_authorization();
        match &responder {
            Some(responder) => responder.answer(&challenge.token, proof.as_str()),
            None => {
                let digest = proof.digest();
                let digest = digest.as_ref().try_into().map_err(|_| Fault::new("SHA-256 has 32 bytes"))?;
                alpn.push(challenges.prove(&name, digest).map_err(Fault::new)?);
            }
        }
        challenge.set_ready().await.map_err(failed)?;
    }
    Ok(Proofs { _alpn: alpn, _responder: responder })
}

/// Why an order came to nothing: the authority says so at the name that it didn't find here.
async fn why(options: &Options, order: &mut Order, error: Option<Error>) -> Fault {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Fault::said(problem, options, Some(&name));
        }
    }
    match error {
        Some(error) => Fault::of(&error, options),
        None => Fault::new("the authority has refused the order and doesn't say why"),
    }
}

/// The request for a certificate, signed by its key.
fn request(options: &Options, key: &KeyPair) -> Result<Vec<u8>, Fault> {
    let failed = |error: rcgen::Error| Fault::new(format!("no request can be made for these domains: {error}"));
    let names: Vec<String> = options.domains.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(failed)?.der().to_vec())
}

/// When the authority would like the present certificate to be renewed, and in how many seconds it wants to be asked again.
pub(crate) async fn window(options: &Options, folder: &Folder) -> Result<((i64, i64), i64), Fault> {
    let leaf = CertificateDer::from_pem_file(folder.pair()).map_err(|error| Fault::new(error.to_string()))?;
    let identifier = CertificateIdentifier::try_from(&leaf).map_err(Fault::new)?;
    let account = account(options, folder).await?;
    let (info, again) = account.renewal_info(&identifier).await.map_err(|error| Fault::of(&error, options))?;
    let window = info.suggested_window;
    let again_s = i64::try_from(again.as_secs()).unwrap_or(i64::MAX);
    Ok(((window.start.unix_timestamp(), window.end.unix_timestamp()), again_s))
}

#[cfg(test)]
mod tests;
