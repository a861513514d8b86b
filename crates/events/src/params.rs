//! Event params: limits, paths and value equality.

use serde_json::{Map, Value};

/// Maximum size of an event's params, in bytes of JSON.
pub const MAX_PARAMS_BYTES: usize = 256 << 10;
/// Maximum nesting depth of params.
const MAX_PARAMS_DEPTH: usize = 32;
/// Maximum number of values in an event's params, nested lists, objects and their members included.
pub const MAX_PARAMS_VALUES: usize = 10_000;

/// Params of an event: a JSON object.
pub type EventParams = Map<String, Value>;

/// The value at `path`: a name, or names of nested objects joined by `__`.
pub fn value_at_path<'p>(params: &'p EventParams, path: &str) -> Option<&'p Value> {
    if let Some(value) = params.get(path) {
        return Some(value);
    }
    path.match_indices("__").find_map(|(index, _)| {
        let nested = params.get(&path[..index])?.as_object()?;
        value_at_path(nested, &path[index + 2..])
    })
}

/// Checks that params can be stored and shown: no NUL, bounded depth and number of values.
pub fn check_storable(params: &EventParams) -> Result<(), String> {
    let mut left = MAX_PARAMS_VALUES;
    params.iter().try_for_each(|(name, value)| {
        check_text(name)?;
        check_value(value, 1, &mut left)
    })
}

/// [`check_storable`] and the size limit: the check for events of any source.
pub fn check_storable_and_size(params: &EventParams) -> Result<(), String> {
    check_storable(params)?;
    if params_bytes(params) > MAX_PARAMS_BYTES {
        Err(format!("has more than {} KiB", MAX_PARAMS_BYTES >> 10))
    } else {
        Ok(())
    }
}

/// `left`: remaining number of values.
fn check_value(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > MAX_PARAMS_DEPTH {
        return Err(format!("must be nested at most {MAX_PARAMS_DEPTH} levels deep"));
    }
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("must hold at most {MAX_PARAMS_VALUES} values"))?;
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1, left)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            check_text(name)?;
            check_value(value, depth + 1, left)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("must hold no NUL (\\u0000)".to_owned()) } else { Ok(()) }
}

/// Size of the params in bytes of JSON.
pub fn params_bytes(params: &EventParams) -> usize {
    json_bytes(params)
}

/// Subtracts the JSON size of the params from `bytes_left`; `false` if they do not fit. Stops
/// serializing as soon as the budget is exceeded.
pub(crate) fn fits_bytes_left(params: &EventParams, bytes_left: &mut usize) -> bool {
    struct ByteBudgetWriter<'r>(&'r mut usize);
    impl std::io::Write for ByteBudgetWriter<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let left = self.0.checked_sub(bytes.len());
            *self.0 = left.ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(ByteBudgetWriter(bytes_left), params).is_ok()
}

/// Size of a value in bytes of JSON, counted without allocating the text.
pub(crate) fn json_bytes(value: &impl serde::Serialize) -> usize {
    struct ByteCounter(usize);
    impl std::io::Write for ByteCounter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = ByteCounter(0);
    // Infallible: neither the JSON value nor this writer can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// Canonical form: equal values have equal text. Members are sorted by name, numbers are written by
/// value (1.0 and 1e0 as 1).
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => {
            match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                Some(float) => text.push_str(&format_whole_number(float)),
                None => text.push_str(&number.to_string()),
            }
        }
        Value::Array(items) => {
            text.push('[');
            items.iter().for_each(|item| {
                write_canonical(item, text);
                text.push(',');
            });
            text.push(']');
        }
        Value::Object(members) => write_canonical_members(members, text),
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// A whole number without an exponent: digits of the float's shortest decimal form, not of its
/// binary value.
fn format_whole_number(float: f64) -> String {
    let shown = format!("{float:e}");
    let (mantissa, power) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = power.parse::<usize>().unwrap_or_default().saturating_sub(fraction.len());
    match whole {
        "0" | "-0" => "0".to_owned(),
        whole => format!("{whole}{fraction}{}", "0".repeat(zeros)),
    }
}

fn write_canonical_members(members: &EventParams, text: &mut String) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (name, value) in sorted {
        write_canonical(&Value::String(name.clone()), text);
        text.push(':');
        write_canonical(value, text);
        text.push(',');
    }
    text.push('}');
}

/// Value equality: numbers by value, members in any order. Agrees with [`canonical_json`], but
/// allocates no text for most values.
pub fn is_same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a == b || canonical_json(a) == canonical_json(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    b.get(name).is_some_and(|other| is_same_value(value, other))
                })
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_named_by_paths() {
        let params = json!({"a": {"b": {"c": 1}, "b__c": 2}, "a__b": 3, "d__": {"e": 4}});
        let params = params.as_object().unwrap();
        for (path, found) in [
            ("a__b", Some(json!(3))),
            ("a__b__c", Some(json!(2))),
            ("d____e", Some(json!(4))),
            ("a__x", None),
            ("__", None),
            ("a__", None),
        ] {
            assert_eq!(value_at_path(params, path), found.as_ref(), "{path}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_text() {
        let params = json!({"a": [1.5, "ü\n"], "b": {}});
        let length = params.to_string().len();
        assert_eq!(params_bytes(params.as_object().unwrap()), length);
        let mut room = 2 * length - 1;
        assert!(fits_bytes_left(params.as_object().unwrap(), &mut room));
        assert!(!fits_bytes_left(params.as_object().unwrap(), &mut room));
    }

    #[test]
    fn the_same_values() {
        assert!(is_same_value(
            &json!({"a": 1, "b": [1.0, "x"]}),
            &json!({"b": [1, "x"], "a": 1.0})
        ));
        let values = [
            json!(1),
            json!("1"),
            json!([1, 2]),
            json!([2, 1]),
            json!([1]),
            json!(null),
            json!(false),
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
            json!({"b": 1}),
            json!(1.5),
            json!(u64::MAX),
            json!([]),
            json!({}),
        ];
        for (n, a) in values.iter().enumerate() {
            for (m, b) in values.iter().enumerate() {
                assert_eq!(is_same_value(a, b), n == m, "{a} {b}");
                assert_eq!(canonical_json(a) == canonical_json(b), n == m, "{a} {b}");
            }
        }
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        for (a, b) in [
            ("1000", "1000.0"),
            ("1000", "1e3"),
            ("0", "-0.0"),
            ("10000000000000000", "1e16"),
            ("1234567890123456800", "1.2345678901234568e18"),
            ("0.1", "1e-1"),
            ("[9007199254740993]", "[9007199254740993]"),
        ] {
            let [a, b]: [Value; 2] = [a, b].map(|text| serde_json::from_str(text).unwrap());
            assert!(is_same_value(&a, &b) && canonical_json(&a) == canonical_json(&b), "{a} {b}");
        }
        for (a, b) in [
            ("9007199254740993", "9007199254740992.0"),
            ("9007199254740993", "9007199254740992"),
            ("1e16", "10000000000000001"),
        ] {
            let [a, b]: [Value; 2] = [a, b].map(|text| serde_json::from_str(text).unwrap());
            assert!(!is_same_value(&a, &b) && canonical_json(&a) != canonical_json(&b), "{a} {b}");
        }
    }

    #[test]
    fn values_are_counted_wherever_they_are() {
        let params = |values: usize| json!({"list": vec![1; values - 2], "x": {}});
        assert_eq!(check_storable(params(MAX_PARAMS_VALUES - 1).as_object().unwrap()), Ok(()));
        for bad in [
            params(MAX_PARAMS_VALUES + 1),
            json!({"a": {"b": vec![json!([[1]]); MAX_PARAMS_VALUES / 3]}}),
        ] {
            assert_eq!(
                check_storable(bad.as_object().unwrap()).unwrap_err(),
                "must hold at most 10000 values"
            );
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
        for bad in [
            json!({"a": "x\0"}),
            json!({"a\0": 1}),
            json!({"a": [{"b": "\0"}]}),
            json!({"a": nested}),
        ] {
            assert!(check_storable(bad.as_object().unwrap()).is_err(), "{bad}");
        }
    }
}
