-- The live processes and what they know.

create table engine.graph (
    hash text primary key,
    definition text not null,
    graph jsonb not null,
    input_schema jsonb,
    first_seen_at timestamptz not null default now()
);

comment on table engine.graph is 'Every graph that a process has registered, by its hash.';

create table engine.process (
    id uuid primary key,
    host text not null,
    pid integer not null,
    version text not null,
    role text not null,
    queues text[] not null,
    hashes text[] not null,
    steps text[] not null,
    in_flight integer not null default 0 check (in_flight >= 0),
    draining boolean not null default false,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
) with (fillfactor = 50);

comment on table engine.process is
    'The processes that run an engine. Each renews its row; one whose row is old is gone.';
comment on column engine.process.id is 'The worker id under which the process holds leases.';
comment on column engine.process.steps is 'Every step that the process knows, as definition/step.';
comment on column engine.process.in_flight is 'How many sagas the process held when it renewed the row.';
comment on column engine.process.draining is 'Whether the process is stopping and claims nothing any more.';

-- How far long calls have come.
create table engine.progress (
    saga_id uuid primary key,
    step text not null,
    done bigint not null check (done >= 0),
    total bigint check (total >= done),
    note text,
    updated_at timestamptz not null default now()
) with (fillfactor = 50);

comment on table engine.progress is 'How far the call that a saga makes now has come; only its last report is kept.';
