-- The state of every saga. A saga is one run of a definition.
--
-- A saga can be claimed once due_at has passed. For an idle saga due_at is the time of its next attempt; for a claimed one it
-- is the end of the lease. So one index and one condition find new work, retries and the work of dead processes alike.

create table engine.saga (
    id uuid primary key,
    definition text not null,
    graph_hash text not null,
    queue text not null,
    status text not null
        check (status in ('running', 'compensating', 'completed', 'compensated', 'dead')),
    step text not null,
    direction text not null check (direction in ('action', 'undo')),
    attempt integer not null default 0 check (attempt >= 0),
    lost_attempts integer not null default 0 check (lost_attempts >= 0),
    in_doubt boolean not null default false,
    history_seq integer not null default 0 check (history_seq >= 0),
    epoch bigint not null default 0 check (epoch >= 0),
    lease_owner uuid,
    claimed_at timestamptz,
    due_at timestamptz,
    deadline_at timestamptz,
    cancel jsonb,
    cause jsonb,
    error text,
    business_key text,
    trace text,
    input jsonb not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint saga_active_is_due check ((status in ('running', 'compensating')) = (due_at is not null)),
    constraint saga_leased_is_active check (lease_owner is null or status in ('running', 'compensating')),
    constraint saga_compensating_has_cause check (status not in ('compensating', 'compensated') or cause is not null)
) with (fillfactor = 70);

comment on table engine.saga is 'One row per saga: its state, its lease and its input.';
comment on column engine.saga.epoch is 'Grows with every claim; a write under an older epoch is refused.';
comment on column engine.saga.lost_attempts is
    'Consecutive attempts whose process vanished; from the second on the engine runs the saga alone.';
comment on column engine.saga.in_doubt is 'An earlier attempt of this call step may have happened.';
comment on column engine.saga.cancel is 'A cancel that was requested while a worker held the saga: {"actor", "reason"}.';

-- Holds unfinished sagas only, so it stays small however many have ended.
create index saga_due on engine.saga (queue, due_at) where status in ('running', 'compensating');

create unique index saga_business_key on engine.saga (definition, business_key) where business_key is not null;

-- For lists of sagas by a status that few have. The statuses that most have are found fast without an index.
create index saga_status on engine.saga (status, id) where status in ('compensating', 'compensated', 'dead');
