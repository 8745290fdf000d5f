-- The log of events, where the outbox's events get the ids that consumers follow.

create table shop.event (
    event_id    bigint primary key,
    at          timestamptz not null,
    routing_key text collate "C" not null,
    key         text collate "C" not null,
    payload     json not null
) with (autovacuum_vacuum_scale_factor = 0.05);
comment on table shop.event is
    'Events in the one order in which all consumers read them. Ids have no gaps and become visible in their order, so a reader that remembers the last one misses nothing; old events are pruned from the front.';

create index event_at on shop.event using brin (at) with (pages_per_range = 16);
comment on index shop.event_at is 'For a replay from a given time.';

create table shop.event_log (
    singleton     boolean primary key default true,
    last_event_id bigint not null default 0,
    constraint event_log_singleton check (singleton),
    constraint event_log_last_event_id check (last_event_id >= 0)
) with (fillfactor = 10);
comment on table shop.event_log is
    'One row: the last id given. The process that moves events from the outbox into the log locks it, so that ids are given one round after the other.';
insert into shop.event_log default values;
