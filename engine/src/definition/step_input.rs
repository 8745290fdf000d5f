//! Reads what a step reads of a saga's stored values. An error names the steps, as their code and the history do.

use crate::{
    definition::inputs::{FromOutputs, ReadError, Unread},
    model::stored_value::StoredValues,
};

/// The input of one step.
pub(crate) struct StepInput<I> {
    step: &'static str,
    read: fn(&StoredValues) -> Result<I, ReadError>,
    /// The steps whose outputs it reads, by the place of the output among the stored values. Place zero is the saga's
    /// input.
    sources: Vec<(usize, String)>,
}

impl<I> StepInput<I> {
    /// The input of `step`, which reads from these steps, in the order of its [places](FromOutputs::places).
    pub(crate) fn new<L, At>(step: &'static str, sources: &[String]) -> Self
    where
        I: FromOutputs<L, At>,
    {
        Self { step, read: I::read, sources: I::places().into_iter().zip(sources.iter().cloned()).collect() }
    }

    /// Decodes the input.
    ///
    /// # Errors
    /// A sentence that names the step and what it reads.
    pub(crate) fn read(&self, values: &StoredValues) -> Result<I, String> {
        (self.read)(values).map_err(|error| self.sentence(&error))
    }

    fn sentence(&self, ReadError { place, why }: &ReadError) -> String {
        let of_a_step = || self.sources.iter().find(|(read, _)| read == place).map(|(_, step)| step.as_str());
        let (source, missing) = match place {
            0 => ("the saga's input".into(), "which is not stored"),
            _ => {
                (format!("the output of `{}`", of_a_step().unwrap_or_default()), "which this saga never ran")
            }
        };
        let step = self.step;
        match why {
            Unread::Missing => format!("`{step}` reads {source}, {missing}"),
            Unread::Unreadable(error) => format!("`{step}` reads {source}, which can't be read: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::{
        definition::inputs::{HCons, HNil, Here, One, There},
        model::stored_value::StoredValue,
    };

    /// The input is a number, the first step's output a text.
    type Outputs = HCons<String, HCons<u64, HNil>>;
    type Indices = (One<There<Here>>, One<Here>);

    fn stored(json: &str) -> StoredValue {
        RawValue::from_string(json.into()).map(StoredValue::from).expect("it is JSON")
    }

    fn read(input: &str, output: Option<&str>) -> Result<(u64, String), String> {
        let mut values = StoredValues::new(stored(input));
        values.set(1, output.map(stored));
        let sources = ["input".into(), "added".into()];
        StepInput::<(u64, String)>::new::<Outputs, Indices>("notify", &sources).read(&values)
    }

    #[test]
    fn a_value_that_can_not_be_read_is_named_by_its_step() {
        assert_eq!(read("7", Some(r#""text""#)), Ok((7, "text".into())));
        let missing = read("7", None).expect_err("the output is missing");
        assert_eq!(missing, "`notify` reads the output of `added`, which this saga never ran");
        let unreadable = read("7", Some("8")).expect_err("the output is a number");
        let start = "`notify` reads the output of `added`, which can't be read: invalid type: integer `8`";
        assert!(unreadable.starts_with(start), "{unreadable}");
        let unreadable = read("true", Some(r#""text""#)).expect_err("the input is a boolean");
        let start = "`notify` reads the saga's input, which can't be read: invalid type: boolean `true`";
        assert!(unreadable.starts_with(start), "{unreadable}");
    }
}
