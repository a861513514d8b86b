//! The macro that defines newtypes of ids.

/// Defines a newtype of a 64-bit id. In SQL, JSON and text it looks like the number that it holds.
///
/// ```ignore
/// store::id_type! {
///     /// Id of a run, unique in the control database.
///     pub struct RunId;
/// }
/// ```
#[macro_export]
macro_rules! id_type {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident;) => {
        $(#[$attribute])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::sqlx::Type, ::serde::Serialize, ::serde::Deserialize,
        )]
        #[sqlx(transparent)]
        #[serde(transparent)]
        $visibility struct $name(pub i64);

        impl $name {
            /// The number, for logs and messages.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::std::num::ParseIntError;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}
