-- What happened to each saga: one row per attempt and per decision.

create table engine.history (
    saga_id uuid not null,
    seq integer not null check (seq > 0),
    step text not null,
    direction text not null check (direction in ('action', 'undo')),
    outcome text not null
        check (outcome in ('done', 'retry', 'snoozed', 'failed', 'lost', 'dead_lettered', 'exhausted', 'cancelled',
                           'deadline_passed', 'retried', 'discarded')),
    attempt integer not null,
    started_at timestamptz not null,
    duration_ms bigint not null,
    output jsonb,
    error jsonb,
    details jsonb,
    worker uuid,
    epoch bigint not null,
    primary key (saga_id, seq)
);

comment on table engine.history is
    'One row per attempt or decision, numbered without gaps. No foreign key: its check would cost every insert, and the invariants find rows without a saga.';
comment on column engine.history.details is
    'Data that the step added to an attempt that failed or is to be repeated, such as the reply of a server; null when there is none.';
