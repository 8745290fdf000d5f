-- The truth about every saga. Five nouns: a saga is one run of a definition; its history has one row for every attempt
-- and every decision; a dead job is a saga parked for a person; the audit tells what people did.
--
-- A saga can be claimed when due_at has come. For an idle saga due_at is when it can move next; for a leased one it is
-- when the lease ends, so that one index and one condition find new work, retries and the work of dead processes alike.

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
    losses integer not null default 0 check (losses >= 0),
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
    constraint saga_moving_is_due check ((status in ('running', 'compensating')) = (due_at is not null)),
    constraint saga_leased_moves check (lease_owner is null or status in ('running', 'compensating')),
    constraint saga_unwinding_has_cause check (status not in ('compensating', 'compensated') or cause is not null)
) with (fillfactor = 70);

comment on table engine.saga is 'One row a saga: where it stands, who holds it, and its input.';
comment on column engine.saga.epoch is 'Grows with every claim; a write by an older epoch is refused.';
comment on column engine.saga.losses is 'How often in a row its holder vanished; the engine runs it alone from the second time on.';
comment on column engine.saga.in_doubt is 'An earlier attempt of this call step may have happened.';
comment on column engine.saga.cancel is 'A cancel asked for while a worker holds the saga: {"actor", "reason"}.';

-- Only unfinished sagas are in it, so it stays small however many have ended.
create index saga_due on engine.saga (queue, due_at) where status in ('running', 'compensating');

create unique index saga_business_key on engine.saga (definition, business_key) where business_key is not null;

create table engine.history (
    saga_id uuid not null,
    seq integer not null check (seq > 0),
    step text not null,
    direction text not null check (direction in ('action', 'undo')),
    outcome text not null
        check (outcome in ('done', 'retry', 'postponed', 'failed', 'lost', 'parked', 'exhausted', 'cancelled',
                           'deadline_passed', 'revived', 'discarded')),
    attempt integer not null,
    started_at timestamptz not null,
    duration_ms bigint not null,
    output jsonb,
    error jsonb,
    worker uuid,
    epoch bigint not null,
    primary key (saga_id, seq)
);

comment on table engine.history is
    'One row an attempt or decision, numbered without gaps. No foreign key: its check would cost every insert, and the invariants look for strays.';

create table engine.dead_job (
    id uuid primary key,
    saga_id uuid not null,
    definition text not null,
    queue text not null,
    step text not null,
    direction text not null,
    attempts integer not null,
    error text not null,
    errors jsonb not null,
    payload jsonb not null,
    first_failed_at timestamptz not null,
    died_at timestamptz not null default now(),
    expires_at timestamptz,
    resolution text check (resolution in ('retried', 'discarded', 'cancelled')),
    resolved_by text,
    resolved_reason text,
    resolved_at timestamptz,
    constraint dead_job_resolved_wholly check ((resolution is null) = (resolved_at is null))
);

comment on table engine.dead_job is 'Every time that a saga was parked for a person, and what the person did.';

-- A saga is parked at most once at a time.
create unique index dead_job_open on engine.dead_job (saga_id) where resolution is null;

create table engine.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    saga_id uuid not null,
    dead_job_id uuid,
    reason text not null
);

comment on table engine.audit is 'What people did to sagas: cancel, retry, discard.';
