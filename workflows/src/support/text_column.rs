//! Types that are stored as one word in a column of type `text`.

/// Implements decoding from such a column by the type's `FromStr`. A word that it does not know is a decoding error.
macro_rules! text_column {
    ($word:ty) => {
        impl sqlx::Type<sqlx::Postgres> for $word {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(column: &sqlx::postgres::PgTypeInfo) -> bool {
                <str as sqlx::Type<sqlx::Postgres>>::compatible(column)
            }
        }

        impl<'r> sqlx::Decode<'r, sqlx::Postgres> for $word {
            fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                let word = <&str as sqlx::Decode<'r, sqlx::Postgres>>::decode(value)?;
                Ok(word.parse()?)
            }
        }
    };
}

pub(crate) use text_column;
