//! JSON as people mean it: two texts that differ only in white space, escapes and the order of keys say the same.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Deepest nesting.
pub const DEEPEST: usize = 32;

/// Why a JSON text is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nested deeper than [`DEEPEST`].
    TooDeep,
    /// Not JSON, or a key twice in one object.
    Malformed(String),
}

/// The one text for everything that says the same. Numbers go by their digits: no float is ever made of them.
pub fn canonical(value: &str) -> Result<String, Refused> {
    // First, so that nothing deep is ever descended into.
    if depth(value) > DEEPEST {
        return Err(Refused::TooDeep);
    }
    let mut text = String::with_capacity(value.len());
    write(value.trim(), &mut text).map_err(|error| Refused::Malformed(error.to_string()))?;
    Ok(text)
}

/// Like [`canonical`], for an object of this program's making, without some of its members; the others may each nest to
/// [`DEEPEST`].
pub(crate) fn canonical_members(object: &str, without: &[&str]) -> Result<String, Refused> {
    if depth(object) > DEEPEST + 1 {
        return Err(Refused::TooDeep);
    }
    let malformed = |error: serde_json::Error| Refused::Malformed(error.to_string());
    let Members(mut members) = serde_json::from_str(object).map_err(malformed)?;
    members.retain(|name, _| !without.contains(&name.as_str()));
    let mut text = String::with_capacity(object.len());
    write_members(&members, &mut text).map_err(malformed)?;
    Ok(text)
}

/// How deep a JSON text nests.
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// An object's members by key; a key that comes twice is an error.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Members<'a>, M::Error> {
                let mut members = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if members.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!("the key `{key}` comes twice")));
                    }
                    members.insert(key, map.next_value()?);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

fn write_members(members: &BTreeMap<String, &RawValue>, into: &mut String) -> serde_json::Result<()> {
    into.push('{');
    for (n, (key, member)) in members.iter().enumerate() {
        into.push_str(if n > 0 { "," } else { "" });
        into.push_str(&serde_json::to_string(key)?);
        into.push(':');
        write(member.get(), into)?;
    }
    into.push('}');
    Ok(())
}

fn write(value: &str, into: &mut String) -> serde_json::Result<()> {
    match value.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(value)?;
            write_members(&members, into)?;
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value)?;
            into.push('[');
            for (n, item) in items.iter().enumerate() {
                into.push_str(if n > 0 { "," } else { "" });
                write(item.get(), into)?;
            }
            into.push(']');
        }
        Some(b'"') => into.push_str(&serde_json::to_string(&serde_json::from_str::<String>(value)?)?),
        // A number or a word: its text is all there is.
        _ => into.push_str(serde_json::from_str::<&RawValue>(value)?.get()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_one_text() {
        let text =
            canonical(r#" { "b" : [ 1 , 2.0, null ], "a\u0041": {"z": "\u00e9\n", "y": true} } "#).unwrap();
        assert_eq!(text, r#"{"aA":{"y":true,"z":"é\n"},"b":[1,2.0,null]}"#);
        assert_eq!(canonical(&text), Ok(text));
        assert_eq!(
            canonical("123456789012345678901234567890.10").unwrap(),
            "123456789012345678901234567890.10"
        );
    }

    #[test]
    fn deep_nesting_costs_nothing() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(canonical(&nested(32)).is_ok());
        assert_eq!(canonical(&nested(33)), Err(Refused::TooDeep));
        assert_eq!(canonical(&"[".repeat(4_000_000)), Err(Refused::TooDeep));
        assert!(canonical(r#""[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[""#).is_ok());
        assert!(matches!(canonical(r#"{"a":1,"a":1}"#), Err(Refused::Malformed(_))));
        let member = |levels| canonical_members(&format!("{{\"b\":{},\"a\":1}}", nested(levels)), &["a"]);
        assert_eq!(member(32), Ok(format!("{{\"b\":{}}}", nested(32))));
        assert_eq!(member(33), Err(Refused::TooDeep));
    }
}
