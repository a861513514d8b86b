//! Canonical JSON: texts that differ only in white space, escapes and key order become equal.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Maximum nesting depth.
pub const MAX_JSON_DEPTH: usize = 32;

/// Why a JSON text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonRefusal {
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    TooDeep,
    /// Not JSON, or an object with a duplicate key.
    Malformed(String),
}

impl From<serde_json::Error> for JsonRefusal {
    fn from(error: serde_json::Error) -> Self {
        JsonRefusal::Malformed(error.to_string())
    }
}

/// Canonical text of a JSON value. Numbers are compared by
/// their digits and never converted to float.
pub fn canonicalize_json(value: &str) -> Result<String, JsonRefusal> {
    // Checked first: bounds the recursion below.
    if measure_json_depth(value) > MAX_JSON_DEPTH {
        return Err(JsonRefusal::TooDeep);
    }
    let mut text = String::with_capacity(value.len());
    write_json_value(value.trim(), &mut text)?;
    Ok(text)
}

/// Like [`canonicalize_json`], for an object built by this program, without `removed_keys`. Each
/// remaining member may nest to [`MAX_JSON_DEPTH`].
pub(crate) fn canonicalize_object(
    object: &str,
    removed_keys: &[&str],
) -> Result<String, JsonRefusal> {
    if measure_json_depth(object) > MAX_JSON_DEPTH + 1 {
        return Err(JsonRefusal::TooDeep);
    }
    let JsonMembers(mut members) = serde_json::from_str(object)?;
    members.retain(|name, _| !removed_keys.contains(&name.as_str()));
    let mut text = String::with_capacity(object.len());
    write_json_members(&members, &mut text)?;
    Ok(text)
}

/// Nesting depth of a JSON text, without parsing it.
pub fn measure_json_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut is_quoted, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'{' | b'[' if !is_quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Members of an object by key; a duplicate key is an error.
struct JsonMembers<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for JsonMembers<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonMembersVisitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for JsonMembersVisitor<'a> {
            type Value = JsonMembers<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<JsonMembers<'a>, M::Error> {
                let mut members = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if members.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!(
                            "the key `{key}` comes twice"
                        )));
                    }
                    members.insert(key, map.next_value()?);
                }
                Ok(JsonMembers(members))
            }
        }
        deserializer.deserialize_map(JsonMembersVisitor(std::marker::PhantomData))
    }
}

fn write_json_members(
    members: &BTreeMap<String, &RawValue>,
    target: &mut String,
) -> serde_json::Result<()> {
    target.push('{');
    for (index, (key, member)) in members.iter().enumerate() {
        target.push_str(if index > 0 { "," } else { "" });
        target.push_str(&serde_json::to_string(key)?);
        target.push(':');
        write_json_value(member.get(), target)?;
    }
    target.push('}');
    Ok(())
}

fn write_json_value(value: &str, target: &mut String) -> serde_json::Result<()> {
    match value.as_bytes().first() {
        Some(b'{') => {
            let JsonMembers(members) = serde_json::from_str(value)?;
            write_json_members(&members, target)?;
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value)?;
            target.push('[');
            for (index, item) in items.iter().enumerate() {
                target.push_str(if index > 0 { "," } else { "" });
                write_json_value(item.get(), target)?;
            }
            target.push(']');
        }
        Some(b'"') => {
            target.push_str(&serde_json::to_string(&serde_json::from_str::<String>(value)?)?)
        }
        // Number, bool or null: keep the text unchanged.
        _ => target.push_str(serde_json::from_str::<&RawValue>(value)?.get()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_one_text() {
        let text = canonicalize_json(
            r#" { "b" : [ 1 , 2.0, null ], "a\u0041": {"z": "\u00e9\n", "y": true} } "#,
        )
        .unwrap();
        assert_eq!(text, r#"{"aA":{"y":true,"z":"é\n"},"b":[1,2.0,null]}"#);
        assert_eq!(canonicalize_json(&text), Ok(text));
        assert_eq!(
            canonicalize_json("123456789012345678901234567890.10").unwrap(),
            "123456789012345678901234567890.10"
        );
    }

    #[test]
    fn deep_nesting_costs_nothing() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(canonicalize_json(&nested(32)).is_ok());
        assert_eq!(canonicalize_json(&nested(33)), Err(JsonRefusal::TooDeep));
        assert_eq!(canonicalize_json(&"[".repeat(4_000_000)), Err(JsonRefusal::TooDeep));
        assert!(
            canonicalize_json(r#""[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[""#)
                .is_ok()
        );
        assert!(matches!(canonicalize_json(r#"{"a":1,"a":1}"#), Err(JsonRefusal::Malformed(_))));
        let member =
            |levels| canonicalize_object(&format!("{{\"b\":{},\"a\":1}}", nested(levels)), &["a"]);
        assert_eq!(member(32), Ok(format!("{{\"b\":{}}}", nested(32))));
        assert_eq!(member(33), Err(JsonRefusal::TooDeep));
    }
}
