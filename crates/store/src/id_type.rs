//! The macro that defines newtypes of ids.

/// Defines a newtype of an id. In SQL, also as an array element, and in text it looks like the number
/// that it holds. For JSON add `#[derive(Serialize, Deserialize)] #[serde(transparent)]`.
///
/// ```ignore
/// store::id_type! {
///     /// Id of a run, unique in the control database.
///     pub struct RunId(i64);
/// }
/// ```
#[macro_export]
macro_rules! id_type {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident($number:ty);) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(pub $number);

        $crate::sql_number!($name, $number);

        impl $name {
            /// The number, for logs and messages.
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl ::std::convert::From<$number> for $name {
            fn from(number: $number) -> Self {
                Self(number)
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
