//! The `Authorization` header of a request, or of a call's metadata.

use http::{HeaderMap, header};

use crate::denied::DenialReason;

/// Maximum length of a token in bytes: signed tokens with the claims of large directories fit.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// The token of `Authorization: Bearer …` or `OAuth …`; the scheme's case does not matter.
pub(crate) fn find_bearer_token(headers: &HeaderMap) -> Result<&[u8], DenialReason> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(DenialReason::NoCredentials)?;
    if values.next().is_some() {
        return Err(DenialReason::MalformedCredentials);
    }
    let text = value.as_bytes().trim_ascii();
    let space = text.iter().position(|byte| *byte == b' ');
    let (scheme, token) = text.split_at(space.ok_or(DenialReason::MalformedCredentials)?);
    let token = token.trim_ascii_start();
    let is_known = scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"oauth");
    let is_token = (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.iter().all(|byte| byte.is_ascii_graphic());
    if is_known && is_token { Ok(token) } else { Err(DenialReason::MalformedCredentials) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(values: &[&str]) -> Result<String, DenialReason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        find_bearer_token(&headers).map(|token| String::from_utf8(token.to_vec()).unwrap())
    }

    #[test]
    fn only_one_bearer_token_is_read() {
        for value in ["Bearer t", "bearer t", "OAuth t", "OAUTH  t", " Bearer t "] {
            assert_eq!(find(&[value]), Ok("t".to_owned()), "{value}");
        }
        assert_eq!(find(&[]), Err(DenialReason::NoCredentials));
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
        let wrong: [&[&str]; 8] = [
            &["Bearer t", "Bearer t"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Basic dDp0"],
            &["t"],
            &["Bearer,t"],
            &[&long],
        ];
        for values in wrong {
            assert_eq!(find(values), Err(DenialReason::MalformedCredentials), "{values:?}");
        }
    }
}
