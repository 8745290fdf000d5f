-- Events for the world outside, written in the commit of the change that they tell.

create table shop.outbox (
    event_id    bigint generated always as identity primary key,
    tx          xid8 not null default pg_current_xact_id(),
    at          timestamptz not null default now(),
    routing_key text collate "C" not null,
    key         text collate "C" not null,
    payload     json not null,
    constraint outbox_routing_key check (routing_key ~ '^[a-z]+\.[a-z_]+$')
);
comment on table shop.outbox is
    'Events in order per key: whoever appends holds the lock on the row that the key names, so ids of one key grow in the order of commits.';
comment on column shop.outbox.tx is
    'A reader that stops below pg_snapshot_xmin(pg_current_snapshot()) skips no event that is not yet committed.';
