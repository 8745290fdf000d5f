//! The token that a caller presents.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX: &str = "sgl";
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;

/// The text of a key: `sgl_<id>_<secret>`, the id 16 and the secret 64 hexadecimal digits. [`fmt::Debug`] and
/// [`fmt::Display`] show only the id.
#[derive(Clone)]
pub struct Token {
    key_id: String,
    secret: String,
}

impl Token {
    /// Generates a token from the operating system's random numbers.
    pub(crate) fn generate() -> Self {
        Self {
            key_id: digits(rand::random::<[u8; ID_DIGITS / 2]>()),
            secret: digits(rand::random::<[u8; 32]>()),
        }
    }

    /// Parses a token; `None` if it does not have the form of our keys.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let (prefix, key_id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_ours = prefix == PREFIX
            && parts.next().is_none()
            && (key_id.len(), secret.len()) == (ID_DIGITS, SECRET_DIGITS)
            && is_hex(key_id)
            && is_hex(secret);
        is_ours.then(|| Self { key_id: key_id.into(), secret: secret.into() })
    }

    /// The public part, which finds the key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The whole token, to be shown to its holder.
    pub fn expose(&self) -> String {
        format!("{PREFIX}_{}_{}", self.key_id, self.secret)
    }

    /// The SHA-256 of the secret.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.secret).into()
    }

    /// Whether the secret has this SHA-256, compared in constant time.
    pub fn fits(&self, secret_hash: &[u8]) -> bool {
        self.hash().as_slice().ct_eq(secret_hash).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}_{}_***", self.key_id)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn digits<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().fold(String::with_capacity(2 * N), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_read_back_and_fits_its_own_hash_only() {
        let (token, other) = (Token::generate(), Token::generate());
        let read = Token::parse(&token.expose()).expect("its own text");
        assert_eq!(read.key_id(), token.key_id());
        assert!(read.fits(&token.hash()));
        assert!(!read.fits(&other.hash()) && !read.fits(&[]) && !read.fits(&token.hash()[..31]));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let good = Token::generate().expose();
        for wrong in [
            String::new(),
            "sgl".into(),
            good.replace("sgl_", "sgk_"),
            good.to_uppercase(),
            format!("{good}0"),
            format!("{good}_"),
            good[..good.len() - 1].into(),
            good.replacen('_', "", 1),
            format!(" {good}"),
        ] {
            assert!(Token::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_in_no_output_but_the_one_for_its_holder() {
        let token = Token::generate();
        let secret = token.expose().rsplit('_').next().expect("a secret").to_owned();
        assert!(!format!("{token} {token:?}").contains(&secret));
    }
}
