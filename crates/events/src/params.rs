//! Params of events: what they may be, how a place in them is named, when two values are the same.

use serde_json::{Map, Value};

/// Largest params of one event, in bytes of JSON.
pub const LARGEST: usize = 256 << 10;
/// Deepest nesting.
const DEEPEST: usize = 32;
/// Most values in the params of one event, lists and objects and what is in them included.
pub const MAX_VALUES: usize = 10_000;

/// Params of an event.
pub type Params = Map<String, Value>;

/// The value at `path`: a name, or names of nested objects joined by two underscores.
pub fn at<'p>(params: &'p Params, path: &str) -> Option<&'p Value> {
    if let Some(value) = params.get(path) {
        return Some(value);
    }
    path.match_indices("__").find_map(|(place, _)| {
        let nested = params.get(&path[..place])?.as_object()?;
        at(nested, &path[place + 2..])
    })
}

/// What no event may have in its params, because it could not be stored or shown.
pub fn check(params: &Params) -> Result<(), String> {
    let mut left = MAX_VALUES;
    params.iter().try_for_each(|(name, value)| {
        check_text(name)?;
        check_value(value, 1, &mut left)
    })
}

/// [`check`], and the size: what an event is refused for, wherever it comes from.
pub fn check_all(params: &Params) -> Result<(), String> {
    check(params)?;
    if size(params) > LARGEST { Err(format!("has more than {} KiB", LARGEST >> 10)) } else { Ok(()) }
}

/// `left`: how many more values there may be.
fn check_value(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("must be nested at most {DEEPEST} levels deep"));
    }
    *left = left.checked_sub(1).ok_or_else(|| format!("must hold at most {MAX_VALUES} values"))?;
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

/// The bytes of params as JSON.
pub fn size(params: &Params) -> usize {
    json_size(params)
}

/// Takes the bytes of params as JSON out of `room`, and looks no further than they fit; whether they do.
pub(crate) fn fit(params: &Params, room: &mut usize) -> bool {
    struct Room<'r>(&'r mut usize);
    impl std::io::Write for Room<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let left = self.0.checked_sub(bytes.len());
            *self.0 = left.ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Room(room), params).is_ok()
}

/// The bytes of a value as JSON, counted and not kept.
pub(crate) fn json_size(value: &impl serde::Serialize) -> usize {
    struct Counted(usize);
    impl std::io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    // Neither JSON nor this writer can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// One text for equal values: members in the order of their names, numbers by their value (1.0 and 1e0 as 1).
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => {
            match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                Some(float) => text.push_str(&whole(float)),
                None => text.push_str(&number.to_string()),
            }
        }
        Value::Array(items) => {
            text.push('[');
            items.iter().for_each(|item| {
                write(item, text);
                text.push(',');
            });
            text.push(']');
        }
        Value::Object(members) => write_members(members, text),
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// A whole number as it is written without a power of ten: the number that is shown, not the one that the bits come to.
fn whole(float: f64) -> String {
    let shown = format!("{float:e}");
    let (mantissa, power) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = power.parse::<usize>().unwrap_or_default().saturating_sub(fraction.len());
    match whole {
        "0" | "-0" => "0".to_owned(),
        whole => format!("{whole}{fraction}{}", "0".repeat(zeros)),
    }
}

fn write_members(members: &Params, text: &mut String) {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (name, value) in sorted {
        write(&Value::String(name.clone()), text);
        text.push(':');
        write(value, text);
        text.push(',');
    }
    text.push('}');
}

/// Whether two values are the same: numbers by their value, members in any order. As [`canonical`] says it, without making the
/// texts.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a == b || canonical(a) == canonical(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let has = |(name, value)| b.get(name).is_some_and(|other| same(value, other));
            a.len() == b.len() && a.iter().all(has)
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
            assert_eq!(at(params, path), found.as_ref(), "{path}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_text() {
        let params = json!({"a": [1.5, "ü\n"], "b": {}});
        let length = params.to_string().len();
        assert_eq!(size(params.as_object().unwrap()), length);
        let mut room = 2 * length - 1;
        assert!(fit(params.as_object().unwrap(), &mut room));
        assert!(!fit(params.as_object().unwrap(), &mut room));
    }

    #[test]
    fn the_same_values() {
        assert!(same(&json!({"a": 1, "b": [1.0, "x"]}), &json!({"b": [1, "x"], "a": 1.0})));
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
                assert_eq!(same(a, b), n == m, "{a} {b}");
                assert_eq!(canonical(a) == canonical(b), n == m, "{a} {b}");
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
            assert!(same(&a, &b) && canonical(&a) == canonical(&b), "{a} {b}");
        }
        for (a, b) in [
            ("9007199254740993", "9007199254740992.0"),
            ("9007199254740993", "9007199254740992"),
            ("1e16", "10000000000000001"),
        ] {
            let [a, b]: [Value; 2] = [a, b].map(|text| serde_json::from_str(text).unwrap());
            assert!(!same(&a, &b) && canonical(&a) != canonical(&b), "{a} {b}");
        }
    }

    #[test]
    fn values_are_counted_wherever_they_are() {
        let params = |values: usize| json!({"list": vec![1; values - 2], "x": {}});
        assert_eq!(check(params(MAX_VALUES - 1).as_object().unwrap()), Ok(()));
        for bad in [params(MAX_VALUES + 1), json!({"a": {"b": vec![json!([[1]]); MAX_VALUES / 3]}})] {
            assert_eq!(check(bad.as_object().unwrap()).unwrap_err(), "must hold at most 10000 values");
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
        for bad in [json!({"a": "x\0"}), json!({"a\0": 1}), json!({"a": [{"b": "\0"}]}), json!({"a": nested})]
        {
            assert!(check(bad.as_object().unwrap()).is_err(), "{bad}");
        }
    }
}
