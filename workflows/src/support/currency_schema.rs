//! How the OpenAPI document describes the currency of a price.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::currency::decimals;

/// The currency of a price: a code of ISO 4217.
#[derive(Clone, Copy, Debug)]
pub struct Currency;

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The currency of a price: a code of ISO 4217 that has minor units."))
            .enum_values(Some(currencies()))
            .into()
    }
}

impl ToSchema for Currency {}

/// Lists the codes of all currencies that prices can be in, in alphabetical order.
fn currencies() -> Vec<String> {
    let letters = || (b'A'..=b'Z').map(char::from);
    let codes = letters().flat_map(|one| {
        letters().flat_map(move |two| letters().map(move |three| String::from_iter([one, two, three])))
    });
    codes.filter(|code| decimals(code).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_currency_is_listed_once_in_order() {
        let codes = currencies();
        assert!(codes.len() > 150 && codes.iter().any(|code| code == "EUR"), "{codes:?}");
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }
}
