//! Stores a signal in the inbox of its saga, in the sender's transaction.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::saga::Definition,
    model::{
        graph::Graph,
        ids::SagaId,
        signal::{Signal, SignalError, SignalReceipt, SignalTarget},
        storable::storable_text,
        stored_value::StoredValue,
    },
    runtime::core::Core,
    store::{
        self,
        signals::{AddresseeRow, NewSignal, StoredSignal},
    },
};

/// Stores a signal. It locks nothing of the saga, so what it knows of it may be about to change. The caller nudges the saga
/// after the commit.
pub(crate) async fn send(
    core: &Core,
    conn: &mut PgConnection,
    target: &SignalTarget,
    signal: &Signal,
) -> Result<SignalReceipt, SignalError> {
    let message = checked_message(core, signal)?;
    let key = signal.key.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let saga = addressee(conn, target).await?;
    let sender = signal.sender.clone().map(storable_text);
    let new = NewSignal {
        saga_id: saga.id,
        name: &signal.name,
        key: &key,
        message: message.stored(),
        sender: sender.as_deref(),
        too_late: false,
    };
    // One that was sent before is answered as then, whatever has become of the saga.
    if signal.key.is_some()
        && let Some(stored) = store::signals::stored(conn, &new).await?
    {
        return answer(&saga, &stored, &key);
    }
    let too_late = is_too_late(core, conn, &saga, signal, message).await?;
    if let Some(status) = saga.refuses() {
        return Err(SignalError::Ended(status));
    }
    let limit = i64::from(SignalError::MOST_KEPT);
    if store::signals::count_open(conn, saga.id, limit).await? >= limit {
        return Err(SignalError::TooMany);
    }
    let stored = store::signals::send(conn, &NewSignal { too_late, ..new }).await?;
    answer(&saga, &stored, &key)
}

fn answer(saga: &AddresseeRow, stored: &StoredSignal, key: &str) -> Result<SignalReceipt, SignalError> {
    if !stored.same {
        return Err(SignalError::KeyReused(key.to_owned()));
    }
    Ok(SignalReceipt { saga_id: SagaId(saga.id), state: stored.state, replayed: stored.replayed })
}

/// Checks what can be checked of a signal for a saga of this definition without the database.
pub(crate) fn check(core: &Core, definition: &Definition, signal: &Signal) -> Result<(), SignalError> {
    let message = checked_message(core, signal)?;
    let awaited = definition.awaited_signal(&signal.name);
    awaited.ok_or_else(|| unknown_signal(&definition.graph, signal))?.check(message)
}

/// Checks the key and the size of a signal, and returns its message.
fn checked_message<'a>(core: &Core, signal: &'a Signal) -> Result<&'a StoredValue, SignalError> {
    let message = signal.message.as_ref().map_err(|reason| bad_message(reason))?;
    message.check_size(core.settings.max_payload)?;
    let is_bad =
        |key: &String| !(1..=SignalError::LONGEST_KEY).contains(&key.chars().count()) || key.contains('\0');
    if signal.key.as_ref().is_some_and(is_bad) {
        return Err(SignalError::BadKey);
    }
    Ok(message)
}

fn bad_message(reason: &str) -> SignalError {
    SignalError::BadMessage { pointer: String::new(), reason: reason.into() }
}

async fn addressee(conn: &mut PgConnection, target: &SignalTarget) -> Result<AddresseeRow, SignalError> {
    match target {
        SignalTarget::Saga(id) => {
            store::signals::addressee(conn, id.0).await?.ok_or(SignalError::NotFound(*id))
        }
        SignalTarget::Key { definition, business_key } => {
            let saga = store::signals::addressee_by_key(conn, definition, business_key).await?;
            saga.ok_or_else(|| SignalError::NoSuchKey {
                definition: definition.clone(),
                business_key: business_key.clone(),
            })
        }
    }
}

/// Checks that the saga waits for such a signal, and returns whether it has passed the last wait for it.
async fn is_too_late(
    core: &Core,
    conn: &mut PgConnection,
    saga: &AddresseeRow,
    signal: &Signal,
    message: &StoredValue,
) -> Result<bool, SignalError> {
    if let Some(definition) = core.definitions.with_hash(&saga.graph_hash) {
        let awaited = definition.awaited_signal(&signal.name);
        awaited.ok_or_else(|| unknown_signal(&definition.graph, signal))?.check(message)?;
        return Ok(has_passed(&definition.graph, saga, signal));
    }
    // The code of the saga is elsewhere. It leaves out what it can't read.
    let graph = core.graphs.find(conn, &saga.graph_hash).await?;
    let graph = graph.ok_or_else(|| SignalError::UnknownGraph(saga.graph_hash.clone()))?;
    if !graph.awaits(&signal.name) {
        return Err(unknown_signal(&graph, signal));
    }
    Ok(has_passed(&graph, saga, signal))
}

fn has_passed(graph: &Graph, saga: &AddresseeRow, signal: &Signal) -> bool {
    graph.position(&saga.step).is_some_and(|at| !graph.awaits_from(at, &signal.name))
}

fn unknown_signal(graph: &Graph, signal: &Signal) -> SignalError {
    let mut known: Vec<String> = Vec::new();
    for name in graph.signals() {
        if !known.iter().any(|other| other == name) {
            known.push(name.into());
        }
    }
    SignalError::UnknownSignal { definition: graph.name.clone(), name: signal.name.to_string(), known }
}
