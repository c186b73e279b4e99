//! A token per rep: signed, expiring, naming one rep of one tenant.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// Fewest bytes a token secret may have: HS256 is no stronger than its secret.
pub const SECRET_BYTES: usize = 32;

/// Who looks at the screen: what a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The rep's organisation.
    pub tenant: String,
    /// Id of the rep, as in the calls' `Started`.
    pub rep: String,
    /// When the token expires, in seconds since 1970.
    pub exp: u64,
}

/// Why there is no token, or why it is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The secret is too short to protect anything.
    #[error("the token secret must have at least {SECRET_BYTES} bytes")]
    WeakSecret,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It was not signed here, or is no token at all.
    #[error("the token is not valid")]
    Invalid,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// Tokens signed with `secret`.
    ///
    /// # Errors
    /// [`TokenError::WeakSecret`] below [`SECRET_BYTES`].
    pub fn new(secret: &str) -> Result<Self, TokenError> {
        if secret.len() < SECRET_BYTES {
            return Err(TokenError::WeakSecret);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp"]);
        Ok(Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        })
    }

    /// A token for a rep, valid for `lifetime` from now.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] when the claims cannot be written.
    pub fn mint(&self, tenant: &str, rep: &str, lifetime: Duration) -> Result<String, TokenError> {
        let claims = Claims {
            tenant: tenant.to_owned(),
            rep: rep.to_owned(),
            exp: seconds_since_1970().saturating_add(lifetime.as_secs()),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|_| TokenError::Invalid)
    }

    /// Who a token names.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        use jsonwebtoken::errors::ErrorKind;
        match decode::<Claims>(token, &self.decoding, &self.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                Err(TokenError::Expired)
            }
            Err(_) => Err(TokenError::Invalid),
        }
    }
}

/// A token for the rep `rep` of `tenant`, valid for `lifetime` from now: for `coach token` and the
/// demo.
///
/// # Errors
/// [`TokenError::WeakSecret`] below [`SECRET_BYTES`].
pub fn mint_token(
    secret: &str,
    tenant: &str,
    rep: &str,
    lifetime: Duration,
) -> Result<String, TokenError> {
    Tokens::new(secret)?.mint(tenant, rep, lifetime)
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of thirty-two bytes, not a real one";
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_names_its_rep_until_it_expires() {
        let tokens = Tokens::new(SECRET).unwrap();
        let claims = tokens
            .verify(&mint_token(SECRET, "acme", "ana", HOUR).unwrap())
            .unwrap();
        assert_eq!((&*claims.tenant, &*claims.rep), ("acme", "ana"));
        let stale = Claims { exp: 1, ..claims };
        let stale = encode(&Header::default(), &stale, &tokens.encoding).unwrap();
        assert_eq!(tokens.verify(&stale), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_that_was_not_signed_here_is_refused() {
        let tokens = Tokens::new(SECRET).unwrap();
        let other = mint_token(&SECRET.to_uppercase(), "acme", "ana", HOUR).unwrap();
        assert_eq!(tokens.verify(&other), Err(TokenError::Invalid));
        let ours = tokens.mint("acme", "ana", HOUR).unwrap();
        let theirs = tokens.mint("acme", "bob", HOUR).unwrap();
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (ours.split('.').collect(), theirs.split('.').collect());
        let forged = [ours[0], theirs[1], ours[2]].join(".");
        assert_eq!(tokens.verify(&forged), Err(TokenError::Invalid));
        // {"alg":"none"}
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", ours[1]);
        assert_eq!(tokens.verify(&unsigned), Err(TokenError::Invalid));
        assert_eq!(tokens.verify(""), Err(TokenError::Invalid));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(
            mint_token("short", "acme", "ana", HOUR),
            Err(TokenError::WeakSecret)
        );
    }
}
