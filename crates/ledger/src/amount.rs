//! Amounts: exact decimals with at most 15 digits before
//! the point and 9 after it, written as strings.

use rust_decimal::Decimal;

/// Maximum digits before the point.
const MAX_WHOLE_DIGITS: usize = 15;
/// Maximum digits after the point.
const MAX_FRACTION_DIGITS: usize = 9;

/// Description of the amount format for error messages.
pub const AMOUNT_FORMAT: &str = "a string with a decimal number of at most 15 digits before and 9 after the point, without sign and exponent, such as \"12.50\"";

/// Parses an amount; `None` if the text is not in the amount format.
pub fn parse_amount(text: &str) -> Option<Decimal> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    if !has_only_digits(whole, MAX_WHOLE_DIGITS)
        || !fraction.is_none_or(|fraction| has_only_digits(fraction, MAX_FRACTION_DIGITS))
    {
        return None;
    }
    // At most 24 digits; a Decimal holds 28.
    text.parse().ok()
}

/// Whether the text consists of 1 to `max_digits` digits.
fn has_only_digits(text: &str, max_digits: usize) -> bool {
    (1..=max_digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses an amount to units of 10^-9; `None` if the text is not in the amount format.
pub(crate) fn parse_amount_units(text: &str) -> Option<i128> {
    let value = parse_amount(text)?;
    let missing = u32::try_from(MAX_FRACTION_DIGITS).ok()?.checked_sub(value.scale())?;
    value.mantissa().checked_mul(10_i128.checked_pow(missing)?)
}

/// Signed side of an amount: debit or credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Increases the account's balance.
    Debit(Decimal),
    /// Decreases the account's balance.
    Credit(Decimal),
}

impl Amount {
    /// The JSON field that holds it: `debit` or `credit`.
    pub fn side(self) -> &'static str {
        match self {
            Amount::Debit(_) => "debit",
            Amount::Credit(_) => "credit",
        }
    }

    /// The absolute value, never negative.
    pub fn value(self) -> Decimal {
        match self {
            Amount::Debit(value) | Amount::Credit(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for good in ["0", "12.50", "999999999999999.999999999", "000000000000001", "0.000000001"] {
            assert_eq!(
                parse_amount(good).unwrap().to_string().parse::<Decimal>(),
                good.parse(),
                "{good}"
            );
        }
        assert_eq!(parse_amount("12.50").unwrap().to_string(), "12.50");
    }

    #[test]
    fn units_are_exact() {
        assert_eq!(parse_amount_units("12.50"), Some(12_500_000_000));
        assert_eq!(
            parse_amount_units("999999999999999.999999999"),
            Some(999_999_999_999_999_999_999_999)
        );
        assert_eq!(parse_amount_units("-1"), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "Infinity",
            " 1",
            "1 ",
            "1,5",
            "1.2.3",
            "0x1",
            "1_0",
            "\u{0661}",
            "1000000000000000",
            "0.0000000001",
        ] {
            assert_eq!(parse_amount(bad), None, "{bad}");
        }
    }
}
