//! YAML straight into structs, within a budget: no file may cost more than it is worth.

use serde::de::DeserializeOwned;

/// Reads YAML; what is wrong is said with line and column.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}
