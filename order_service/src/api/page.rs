//! Page tokens: opaque to the client, readable only with the filter they were made for.

use serving::error::ApiError;

use crate::orders::State;

/// The token of the page after `last`.
pub(super) fn token(state: Option<State>, last: i32) -> String {
    format!("v1.{}.{last}", state.map_or(0, |state| state as i16))
}

/// The id after which the page begins; `None` for the first page.
pub(super) fn after(text: &str, state: Option<State>) -> Result<Option<i32>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let last = text.rsplit_once('.').and_then(|(_, last)| last.parse().ok());
    match last {
        Some(last) if token(state, last) == text => Ok(Some(last)),
        _ => Err(ApiError::field("page_token", "must be a next_page_token of the same listing, or empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_with_its_own_filter_only() {
        for last in [i32::MIN, -1, 0, i32::MAX] {
            let failed = token(Some(State::Failed), last);
            assert_eq!(after(&failed, Some(State::Failed)).unwrap(), Some(last));
            assert!(after(&failed, None).is_err());
        }
        assert_eq!(after("", None).unwrap(), None);
        for bad in ["x", "v1.0.", "v1.0.99999999999", "v1.0.+5", "v1.0.05", "v2.0.5"] {
            assert!(after(bad, None).is_err(), "{bad}");
        }
    }
}
