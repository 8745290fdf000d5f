-- Dead jobs whose time to live is over.

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
    constraint dead_job_archive_resolution_complete check ((resolution is null) = (resolved_at is null)),
    constraint dead_job_archive_why_fits check ((why = 'resolved') = (resolution is not null))
);

comment on table engine.dead_job_archive is
    'Dead jobs whose time to live is over. No operator acted on an expired one: its saga compensated where it still could, and otherwise stays dead, with an end.';
comment on column engine.dead_job_archive.why is
    'expired: no operator had acted on the dead job; resolved: one had, and only the record was kept until now.';

-- For the archived jobs that are deleted next.
create index dead_job_archive_age on engine.dead_job_archive (archived_at);
