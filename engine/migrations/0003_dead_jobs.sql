-- Dead jobs: sagas that wait for an operator.

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
    resolution text check (resolution in ('retried', 'discarded', 'cancelled', 'deadline_passed')),
    resolved_by text,
    resolved_reason text,
    resolved_at timestamptz,
    constraint dead_job_resolution_complete check ((resolution is null) = (resolved_at is null))
);

comment on table engine.dead_job is 'One row for each time that a saga became dead, and what resolved it.';

-- A saga has at most one open dead job.
create unique index dead_job_open on engine.dead_job (saga_id) where resolution is null;

-- For the jobs that expire next; those that wait without a limit are not in it.
create index dead_job_expires on engine.dead_job (expires_at) where expires_at is not null;
