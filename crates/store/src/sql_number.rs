//! Newtypes over numbers as SQL values.

/// Implements the traits of `sqlx` for a newtype over a number: it is encoded, decoded and compared
/// like the number, also as an element of an array.
///
/// Does what `#[derive(sqlx::Type)] #[sqlx(transparent)]` does. For arrays that derive needs the
/// Postgres driver, built once more for the compiler.
#[macro_export]
macro_rules! sql_number {
    ($name:ty, $number:ty) => {
        impl ::sqlx::Type<::sqlx::Postgres> for $name {
            fn type_info() -> ::sqlx::postgres::PgTypeInfo {
                <$number as ::sqlx::Type<::sqlx::Postgres>>::type_info()
            }

            fn compatible(info: &::sqlx::postgres::PgTypeInfo) -> bool {
                <$number as ::sqlx::Type<::sqlx::Postgres>>::compatible(info)
            }
        }

        impl ::sqlx::postgres::PgHasArrayType for $name {
            fn array_type_info() -> ::sqlx::postgres::PgTypeInfo {
                <$number as ::sqlx::postgres::PgHasArrayType>::array_type_info()
            }

            fn array_compatible(info: &::sqlx::postgres::PgTypeInfo) -> bool {
                <$number as ::sqlx::postgres::PgHasArrayType>::array_compatible(info)
            }
        }

        impl<'q> ::sqlx::Encode<'q, ::sqlx::Postgres> for $name {
            fn encode_by_ref(
                &self,
                buffer: &mut ::sqlx::postgres::PgArgumentBuffer,
            ) -> ::std::result::Result<::sqlx::encode::IsNull, ::sqlx::error::BoxDynError> {
                <$number as ::sqlx::Encode<'q, ::sqlx::Postgres>>::encode_by_ref(&self.0, buffer)
            }
        }

        impl<'r> ::sqlx::Decode<'r, ::sqlx::Postgres> for $name {
            fn decode(
                value: ::sqlx::postgres::PgValueRef<'r>,
            ) -> ::std::result::Result<Self, ::sqlx::error::BoxDynError> {
                <$number as ::sqlx::Decode<'r, ::sqlx::Postgres>>::decode(value).map(Self)
            }
        }
    };
}
