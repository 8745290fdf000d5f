-- History is stored as runs: one row for entries that one commit writes of a saga and that differ only in their step, times
-- and output. engine.history becomes a view that shows the entries as before.
--
-- A row of the old table is a run of one entry, so no row is rewritten.

alter table engine.history rename to history_run;
alter index engine.history_pkey rename to history_run_pkey;

alter table engine.history_run
    add column next_steps text[],
    add column next_offsets_us integer[],
    add column next_durations_ms integer[],
    add column next_outputs jsonb;

-- Not valid: the existing rows have nulls here, so they need not be read.
alter table engine.history_run
    add constraint history_run_next_agree check (
        num_nulls(next_steps, next_offsets_us, next_durations_ms) in (0, 3)
        and cardinality(next_steps) > 0
        and cardinality(next_offsets_us) = cardinality(next_steps)
        and cardinality(next_durations_ms) = cardinality(next_steps)
        and (next_outputs is null or jsonb_array_length(next_outputs) = cardinality(next_steps))
        and (next_outputs is null) = (output is null or next_steps is null)
    ) not valid,
    add constraint history_run_is_plain check (
        next_steps is null or outcome = 'done' and attempt = 1 and error is null and details is null and arm is null
    ) not valid;

comment on table engine.history_run is
    'One row per run of entries: its plain columns are the first entry, the next_ columns those that follow it. Read engine.history instead. No foreign key: its check would cost every insert, and the invariants find rows without a saga.';
comment on column engine.history_run.next_steps is
    'The steps of the entries that follow the first one, done in the same commit at their first attempt; null when there are none.';
comment on column engine.history_run.next_offsets_us is
    'For each of next_steps, how long after started_at it started, in microseconds.';
comment on column engine.history_run.next_durations_ms is 'For each of next_steps, its duration.';
comment on column engine.history_run.next_outputs is
    'A JSON array with the output of each of next_steps; null when the entries of the run have none.';

-- The function depends on the steps only, which are the same in many rows, so that PostgreSQL can remember its result.
create view engine.history as
select r.saga_id,
       r.seq + (e.place::integer - 1) as seq,
       e.step,
       r.direction,
       r.outcome,
       r.attempt,
       case when e.place = 1 then r.started_at
            else r.started_at + r.next_offsets_us[e.place - 1] * interval '1 microsecond' end as started_at,
       case when e.place = 1 then r.duration_ms else r.next_durations_ms[e.place - 1] end as duration_ms,
       case when e.place = 1 then r.output else r.next_outputs -> (e.place::integer - 2) end as output,
       r.error,
       r.details,
       r.worker,
       r.epoch,
       r.round,
       r.arm,
       r.seq as run
from engine.history_run r
cross join lateral unnest(array_prepend(r.step, r.next_steps)) with ordinality as e (step, place);

comment on view engine.history is 'One row per attempt or decision, numbered without gaps.';
comment on column engine.history.run is 'The number of the first entry of the row of engine.history_run that has this one.';

-- Processes of the version before this migration insert entries into engine.history until they are replaced.
create function engine.insert_history() returns trigger language plpgsql as $$
begin
    insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, error,
        details, worker, epoch, round, arm)
    values (new.saga_id, new.seq, new.step, new.direction, new.outcome, new.attempt, new.started_at, new.duration_ms,
        new.output, new.error, new.details, new.worker, new.epoch, coalesce(new.round, 0), new.arm);
    return new;
end
$$;

create trigger history_insert instead of insert on engine.history
    for each row execute function engine.insert_history();
