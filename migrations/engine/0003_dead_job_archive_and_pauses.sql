-- Dead jobs come to an end, and queues can be paused.

create table engine.dead_job_archive (
    id uuid primary key,
    saga_id uuid not null,
    definition text not null,
    queue text not null,
    step text not null,
    direction text not null check (direction in ('action', 'undo')),
    attempts integer not null,
    error text not null,
    errors jsonb not null,
    payload jsonb not null,
    first_failed_at timestamptz not null,
    died_at timestamptz not null,
    expires_at timestamptz,
    resolution text,
    resolved_by text,
    resolved_reason text,
    resolved_at timestamptz,
    archived_at timestamptz not null default clock_timestamp(),
    why text not null check (why in ('expired', 'resolved')),
    constraint dead_job_archive_resolved_wholly check ((resolution is null) = (resolved_at is null)),
    constraint dead_job_archive_says_why check ((why = 'resolved') = (resolution is not null))
);

comment on table engine.dead_job_archive is
    'Dead jobs whose time to live is over. An expired one was acted on by nobody: its saga stays dead, with an end.';
comment on column engine.dead_job_archive.why is
    'expired: nobody had acted on it; resolved: somebody had, and only the record was kept until now.';

-- Those that expire next; jobs that wait for ever are not in it.
create index dead_job_expires on engine.dead_job (expires_at) where expires_at is not null;

create table engine.queue (
    name text primary key check (name <> '' and length(name) <= 128),
    paused boolean not null,
    paused_by text,
    reason text,
    since timestamptz not null default now(),
    constraint queue_paused_by_somebody check (not paused or (paused_by is not null and reason is not null))
);

comment on table engine.queue is
    'Queues that somebody has paused or resumed; a queue without a row was never touched. While paused, no process claims in it.';
comment on column engine.queue.since is 'When it was paused or resumed last.';
