-- The state of each process's circuit breakers, for display.

create table shop.circuit_breaker (
    process_id    uuid not null,
    dependency    text collate "C" not null,
    process       text not null,
    state         text collate "C" not null,
    failures      bigint not null,
    opened_at     timestamptz,
    next_probe_at timestamptz,
    threshold     bigint not null,
    open_ms       bigint not null,
    probes        bigint not null,
    changed_at    timestamptz not null default clock_timestamp(),
    seen_at       timestamptz not null default clock_timestamp(),
    primary key (process_id, dependency),
    constraint circuit_breaker_state check (state in ('closed', 'half_open', 'open')),
    constraint circuit_breaker_failures check (failures >= 0 and threshold > 0 and probes > 0 and open_ms >= 0),
    constraint circuit_breaker_closed_has_no_times
        check (state <> 'closed' or (opened_at is null and next_probe_at is null))
);
comment on table shop.circuit_breaker is
    'A display: one row per process and dependency, written by that process when a breaker changes and every few seconds. Nothing is decided by it, since one process may reach what another can''t.';
comment on column shop.circuit_breaker.process is 'The kind of process, such as work or serve.';
comment on column shop.circuit_breaker.threshold is 'The consecutive failures that open the breaker.';
comment on column shop.circuit_breaker.seen_at is 'When the process last wrote the row; the rows of a process that stopped writing are not shown.';
