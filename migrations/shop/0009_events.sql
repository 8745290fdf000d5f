-- The log of events: where the outbox's rows get the ids that consumers follow, and how far each consumer is.

create table shop.event (
    event_id    bigint primary key,
    at          timestamptz not null,
    routing_key text collate "C" not null,
    key         text collate "C" not null,
    payload     json not null
) with (autovacuum_vacuum_scale_factor = 0.05);
comment on table shop.event is
    'Events in the order in which everybody reads them. Ids have no gaps and become visible in their order, so whoever remembers the last one misses nothing; old ones are pruned from the front.';

create index event_at on shop.event using brin (at) with (pages_per_range = 16);
comment on index shop.event_at is 'A person who replays from a time.';

create table shop.event_log (
    only_one      boolean primary key default true,
    last_event_id bigint not null default 0,
    constraint event_log_only_one check (only_one),
    constraint event_log_last_event_id check (last_event_id >= 0)
) with (fillfactor = 10);
comment on table shop.event_log is
    'One row: the last id given. Whoever moves events from the outbox into the log locks it, so ids are given one round after the other.';
insert into shop.event_log default values;

create table shop.event_consumer (
    name          text collate "C" primary key,
    last_event_id bigint not null default 0,
    begun_after   bigint not null default 0,
    series        bigint not null default (extract(epoch from clock_timestamp()) * 1000)::bigint,
    epoch         bigint not null default 0,
    holder        uuid,
    lease_until   timestamptz not null default '-infinity',
    registered_at timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    constraint event_consumer_name check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    constraint event_consumer_positions check (begun_after >= 0 and last_event_id >= begun_after)
) with (fillfactor = 10);
comment on table shop.event_consumer is
    'How far each target has confirmed events. While it stands here, nothing that it lacks is pruned.';
comment on column shop.event_consumer.series is
    'Milliseconds since 1970 when the target began to be filled after begun_after, at its registration or by a replay: a stream whose entries must have growing ids begins them with it.';
comment on column shop.event_consumer.epoch is
    'Grows with every change of the publishing process: one that lost its lease changes nothing.';

-- The outbox is now where events wait to be moved, and nearly always empty: dead rows are most of it.
alter table shop.outbox drop column tx;
alter table shop.outbox set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
);
comment on table shop.outbox is
    'Events on their way into shop.event, in order per key: whoever appends holds the lock on the row that the key names, so of two events of one key the one with the lower id was committed first.';
