//! The builder's methods that give a saga its result.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::{
        inputs::{FromOutputs, HCons, HList},
        saga::Saga,
        saga_result::SagaResult,
        step_input::StepInput,
    },
    model::stored_value::StoredValue,
};

impl<I, T, L: HList> Saga<I, HCons<T, L>, T> {
    /// Gives the saga its result: the output of the step that was added last. Steps that are added after it don't change that.
    pub fn returns_output(mut self) -> Saga<I, HCons<T, L>> {
        self.result = Some(SagaResult::Output(L::LENGTH));
        self.retyped()
    }
}

impl<I, L: HList, O: Serialize> Saga<I, L, O>
where
    I: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    /// Gives the saga its result: what `result` computes from its input or an output when the last step is done. It must not
    /// fail: if it panics, or the result is too large, the saga completes without one, and its error says so.
    pub fn returns<X, At>(mut self, result: impl Fn(&X) -> O + Send + Sync + 'static) -> Saga<I, L>
    where
        X: FromOutputs<L, At> + 'static,
    {
        let reads = self.chain.names_at(&X::places());
        let input = StepInput::new::<L, At>("the result", &reads);
        self.result = Some(SagaResult::Computed(Box::new(move |values| {
            StoredValue::encode(&result(&input.read(values)?)).map_err(|error| format!("it {error}"))
        })));
        self.retyped()
    }
}
