//! Page tokens (keyset pagination): opaque to clients, valid only with the same filter.

use serving::error::ApiError;

use crate::orders::OrderId;
use crate::orders::db::OrderState;

/// Token of the page after order id `last`.
pub(super) fn encode_page_token(state: Option<OrderState>, last: OrderId) -> String {
    format!("v1.{}.{last}", state.map_or(0, |state| state as i16))
}

/// The order id after which the page starts; `None` for the first page.
pub(super) fn decode_page_token(
    page_token: &str,
    state: Option<OrderState>,
) -> Result<Option<OrderId>, ApiError> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let last = page_token.rsplit_once('.').and_then(|(_, last)| last.parse::<i32>().ok());
    match last.map(OrderId::from) {
        Some(last) if encode_page_token(state, last) == page_token => Ok(Some(last)),
        _ => Err(ApiError::invalid_field(
            "page_token",
            "must be a next_page_token of the same listing, or empty",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_with_its_own_filter_only() {
        for last in [i32::MIN, -1, 0, i32::MAX].map(OrderId::from) {
            let failed = encode_page_token(Some(OrderState::Failed), last);
            assert_eq!(decode_page_token(&failed, Some(OrderState::Failed)).unwrap(), Some(last));
            assert!(decode_page_token(&failed, None).is_err());
        }
        assert_eq!(decode_page_token("", None).unwrap(), None);
        for bad in ["x", "v1.0.", "v1.0.99999999999", "v1.0.+5", "v1.0.05", "v2.0.5"] {
            assert!(decode_page_token(bad, None).is_err(), "{bad}");
        }
    }
}
