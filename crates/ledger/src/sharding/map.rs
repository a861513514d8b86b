//! Shard map: which database owns which range of hashes. The ranges cover all hashes exactly once.

use serde::Deserialize;

/// One shard in the map's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardMapEntry {
    name: String,
    range: (String, String),
    url: Option<String>,
    url_env: Option<String>,
    url_file: Option<String>,
    schema: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardMapFile {
    shards: Vec<ShardMapEntry>,
}

/// Range of hash prefixes, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRange {
    /// Lowest prefix of the range.
    pub first: u64,
    /// Highest prefix of the range.
    pub last: u64,
}

impl ShardRange {
    /// Parses a range from the leading bytes in hex, such as `00` and `3f`.
    pub fn parse(first: &str, last: &str) -> Result<Self, String> {
        let range = Self { first: parse_prefix(first, 0x00)?, last: parse_prefix(last, 0xff)? };
        if range.first > range.last {
            return Err(format!("the range's first hash {first} is after its last, {last}"));
        }
        Ok(range)
    }

    /// Whether the range contains hashes that begin with `prefix`.
    pub fn contains(self, prefix: u64) -> bool {
        (self.first..=self.last).contains(&prefix)
    }

    /// Both ends in hex, as short as possible.
    pub fn to_hex(self) -> [String; 2] {
        let (mut first, mut last) = (format!("{:016x}", self.first), format!("{:016x}", self.last));
        while first.len() > 2 && first.ends_with("00") && last.ends_with("ff") {
            first.truncate(first.len() - 2);
            last.truncate(last.len() - 2);
        }
        [first, last]
    }
}

/// Parses one to eight bytes in hex, padded with `fill`.
fn parse_prefix(hex: &str, fill: u8) -> Result<u64, String> {
    if hex.is_empty()
        || hex.len() > 16
        || !hex.len().is_multiple_of(2)
        || !hex.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(hash_prefix_error(hex));
    }
    let mut bytes = [fill; 8];
    for (target, byte) in bytes.iter_mut().zip(0..hex.len() / 2) {
        *target = u8::from_str_radix(&hex[byte * 2..byte * 2 + 2], 16)
            .map_err(|_| hash_prefix_error(hex))?;
    }
    Ok(u64::from_be_bytes(bytes))
}

fn hash_prefix_error(hex: &str) -> String {
    format!("`{hex}` is not the first 1 to 8 bytes of a hash in hex, such as 3f")
}

/// Definition of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardDefinition {
    /// Shard name, unique within the map.
    pub name: String,
    /// Hashes that the shard owns.
    pub range: ShardRange,
    /// Source of the database URL; `None`: the shard is in the control database.
    pub url: Option<ShardUrlSource>,
    /// Schema of that database (or of the control database), if the shard has no database to
    /// itself.
    pub schema: Option<String>,
}

/// Source of a shard's database URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardUrlSource {
    /// Written in the map itself.
    Inline(String),
    /// Name of an environment variable.
    Env(String),
    /// Path of a file.
    File(String),
}

/// Maximum number of equal shards: one per value of the hash's first byte.
pub const MAX_EQUAL_SHARDS: u64 = 256;

/// All shards, ordered by range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap(Vec<ShardDefinition>);

impl ShardMap {
    /// Equal shards `s0`, `s1`, … in the control database, each in the given schema. `None` unless
    /// their number is a power of two up to [`MAX_EQUAL_SHARDS`].
    pub fn with_equal_ranges(schemas: Vec<Option<String>>) -> Option<Self> {
        let count = u64::try_from(schemas.len()).ok().filter(|count| *count <= MAX_EQUAL_SHARDS)?;
        if !count.is_power_of_two() {
            return None;
        }
        let last_of_first = u64::MAX / count;
        let mut shards = Vec::with_capacity(schemas.len());
        for (n, schema) in (0_u64..).zip(schemas) {
            let first = n * (last_of_first.wrapping_add(1));
            shards.push(ShardDefinition {
                name: format!("s{n}"),
                range: ShardRange { first, last: first + last_of_first },
                url: None,
                schema,
            });
        }
        Some(Self(shards))
    }

    /// Parses a map from YAML. Errors name the shard and the problem.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let file: ShardMapFile = yaml::from_str(yaml)?;
        let shards: Vec<ShardDefinition> = file
            .shards
            .into_iter()
            .map(ShardMapEntry::into_definition)
            .collect::<Result<_, _>>()?;
        Self::new(shards)
    }

    /// Validates that the ranges cover all hashes exactly once.
    pub fn new(mut shards: Vec<ShardDefinition>) -> Result<Self, String> {
        shards.sort_by_key(|shard| shard.range.first);
        for (n, shard) in shards.iter().enumerate() {
            if shards[..n].iter().any(|other| other.name == shard.name) {
                return Err(format!("two shards are named {}", shard.name));
            }
        }
        let mut next_hash: Option<u64> = Some(0);
        let mut previous: Option<&ShardDefinition> = None;
        for shard in &shards {
            let overlaps = next_hash.is_none_or(|next| shard.range.first < next);
            if let (true, Some(before)) = (overlaps, previous) {
                return Err(format!(
                    "shards {} {:?} and {} {:?} overlap",
                    before.name,
                    before.range.to_hex(),
                    shard.name,
                    shard.range.to_hex()
                ));
            }
            if let Some(next) = next_hash.filter(|next| *next < shard.range.first) {
                return Err(gap_error(next, shard.range.first - 1));
            }
            next_hash = shard.range.last.checked_add(1);
            previous = Some(shard);
        }
        match next_hash {
            Some(next) => Err(gap_error(next, u64::MAX)),
            None => Ok(Self(shards)),
        }
    }

    /// All shards, ordered by range.
    pub fn shards(&self) -> &[ShardDefinition] {
        &self.0
    }

    /// Index into [`ShardMap::shards`] of the owner of hashes that begin with `prefix`.
    pub fn index_of_prefix(&self, prefix: u64) -> usize {
        self.0.partition_point(|shard| shard.range.last < prefix)
    }
}

fn gap_error(first: u64, last: u64) -> String {
    format!(
        "no shard owns the hashes {:?}: the ranges have a gap",
        ShardRange { first, last }.to_hex()
    )
}

impl ShardMapEntry {
    fn into_definition(self) -> Result<ShardDefinition, String> {
        let name = self.name;
        let has_allowed_characters =
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if name.is_empty() || name.len() > 40 || !has_allowed_characters {
            return Err(format!(
                "shard name `{name}`: 1 to 40 letters, digits, - and _ are allowed"
            ));
        }
        let range = ShardRange::parse(&self.range.0, &self.range.1)
            .map_err(|reason| format!("shard {name}: {reason}"))?;
        let url = match (self.url, self.url_env, self.url_file) {
            (Some(url), None, None) => ShardUrlSource::Inline(url),
            (None, Some(variable), None) => ShardUrlSource::Env(variable),
            (None, None, Some(file)) => ShardUrlSource::File(file),
            _ => return Err(format!("shard {name}: give exactly one of url, url_env, url_file")),
        };
        if let Some(schema) = &self.schema {
            check_schema_name(schema).map_err(|reason| format!("shard {name}: {reason}"))?;
        }
        Ok(ShardDefinition { name, range, url: Some(url), schema: self.schema })
    }
}

/// Allows names that need no quotes in SQL; reserved words (`user`) are not detected.
fn check_schema_name(schema: &str) -> Result<(), String> {
    let has_valid_start = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let has_allowed_characters =
        schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_reserved = schema.starts_with("pg_") || schema == "information_schema";
    if !has_valid_start || schema.len() > 63 || !has_allowed_characters || is_reserved {
        return Err(format!(
            "schema `{schema}`: 1 to 63 lower-case letters, digits and _ are allowed, not beginning with a digit or pg_"
        ));
    }
    Ok(())
}

impl ShardUrlSource {
    /// Reads the URL; errors never contain it.
    pub fn read_url(&self) -> Result<String, String> {
        let url = match self {
            ShardUrlSource::Inline(url) => url.clone(),
            ShardUrlSource::Env(variable) => std::env::var(variable)
                .ok()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("the environment variable {variable} is not set"))?,
            ShardUrlSource::File(file) => {
                std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?
            }
        };
        Ok(url.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(&str, &str)]) -> Result<ShardMap, String> {
        let place = |(n, (first, last)): (usize, &(&str, &str))| {
            let range = ShardRange::parse(first, last)?;
            Ok(ShardDefinition { name: format!("s{n}"), range, url: None, schema: None })
        };
        ShardMap::new(ranges.iter().enumerate().map(place).collect::<Result<_, String>>()?)
    }

    #[test]
    fn ranges_cover_everything_once() {
        let four = map(&[("c0", "ff"), ("00", "3f"), ("40", "7f"), ("80", "bf")]).unwrap();
        let ranges =
            |map: &ShardMap| map.shards().iter().map(|shard| shard.range).collect::<Vec<_>>();
        assert_eq!(ranges(&four), ranges(&ShardMap::with_equal_ranges(vec![None; 4]).unwrap()));
        assert_eq!(
            [0, u64::MAX, 0x3fff_ffff_ffff_ffff, 0x4000_0000_0000_0000]
                .map(|p| four.index_of_prefix(p)),
            [0, 3, 0, 1]
        );
        assert_eq!(
            map(&[("00", "7fff"), ("8000", "ff")]).unwrap().shards()[0].range.to_hex(),
            ["00", "7f"]
        );
        for (bad, named) in [
            (vec![("00", "3f"), ("41", "ff")], "40"),
            (vec![("00", "7f"), ("7f", "ff")], "overlap"),
            (vec![("00", "7f")], "80"),
            (vec![("01", "ff")], "00"),
            (vec![], "00"),
            (vec![("00", "ff"), ("00", "ff")], "s1"),
            (vec![("00", "ff"), ("80", "8f")], "overlap"),
            (vec![("0", "ff")], "`0`"),
            (vec![("zz", "ff")], "`zz`"),
            (vec![("ff", "00")], "after"),
        ] {
            let error = map(&bad).unwrap_err();
            assert!(error.contains(named), "{bad:?}: {error}");
        }
    }
    #[test]
    fn equal_shards_cover_everything_whatever_their_number() {
        for count in [1, 2, 4, 256] {
            let equal = ShardMap::with_equal_ranges(vec![None; count]).unwrap();
            assert_eq!(ShardMap::new(equal.shards().to_vec()), Ok(equal.clone()), "{count}");
            assert_eq!([equal.index_of_prefix(0), equal.index_of_prefix(u64::MAX)], [0, count - 1]);
        }
        assert_eq!(
            ShardMap::with_equal_ranges(vec![None]).unwrap().shards()[0].range.to_hex(),
            ["00", "ff"]
        );
        for count in [0, 3, 512] {
            assert_eq!(ShardMap::with_equal_ranges(vec![None; count]), None, "{count}");
        }
    }

    #[test]
    fn a_schema_beside_a_url_needs_no_quotes() {
        let map = |schema: &str| {
            ShardMap::parse(&format!(
                "shards: [{{name: s0, range: ['00', ff], url: x, schema: {schema}}}]"
            ))
        };
        assert_eq!(map("s0").unwrap().shards()[0].schema.as_deref(), Some("s0"));
        for bad in ["S0", "0s", "pg_toast", "'a b'", "'a\"b'", "''"] {
            assert!(map(bad).unwrap_err().contains("shard s0: schema"), "{bad}");
        }
    }
}
