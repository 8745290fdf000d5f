-- The outbox: events that are committed with the change that they describe, and wait to be moved into the log.

create table shop.outbox (
    event_id    bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    routing_key text collate "C" not null,
    key         text collate "C" not null,
    payload     json not null,
    constraint outbox_routing_key check (routing_key ~ '^[a-z]+\.[a-z_]+$')
) with (
    -- The table is nearly always empty, so most of its rows are dead.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
);
comment on table shop.outbox is
    'Events on their way into shop.event, in order per key: a transaction that appends one holds the lock on the row that the key names, so of two events of one key the one with the lower id was committed first.';
