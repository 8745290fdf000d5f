//! Types that are one word in a column of text.

/// Lets a type be read from such a column, by its `TryFrom<String>`. A word that is none of its is a column that can't be
/// decoded.
macro_rules! text_column {
    ($word:ty) => {
        impl sqlx::Type<sqlx::Postgres> for $word {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <String as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(column: &sqlx::postgres::PgTypeInfo) -> bool {
                <String as sqlx::Type<sqlx::Postgres>>::compatible(column)
            }
        }

        impl sqlx::Decode<'_, sqlx::Postgres> for $word {
            fn decode(value: sqlx::postgres::PgValueRef<'_>) -> Result<Self, sqlx::error::BoxDynError> {
                let word = <String as sqlx::Decode<'_, sqlx::Postgres>>::decode(value)?;
                Ok(Self::try_from(word)?)
            }
        }
    };
}

pub(crate) use text_column;
