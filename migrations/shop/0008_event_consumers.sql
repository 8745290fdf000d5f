-- The consumers that events are published to, and how far each of them is.

create table shop.event_consumer (
    name              text collate "C" primary key,
    last_event_id     bigint not null default 0,
    started_after     bigint not null default 0,
    series            bigint not null default (extract(epoch from clock_timestamp()) * 1000)::bigint,
    epoch             bigint not null default 0,
    holder            uuid,
    lease_until       timestamptz not null default '-infinity',
    registered_at     timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    previous_series   bigint,
    previous_event_id bigint,
    constraint event_consumer_name check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    constraint event_consumer_positions check (started_after >= 0 and last_event_id >= started_after),
    constraint event_consumer_previous check ((previous_series is null) = (previous_event_id is null))
) with (fillfactor = 10);
comment on table shop.event_consumer is
    'How far each consumer has confirmed events. An event that a consumer listed here lacks is not pruned.';
comment on column shop.event_consumer.series is
    'When the current series started after started_after, by registration or by a replay, in milliseconds since 1970. A stream whose entries need growing ids uses it as their first part.';
comment on column shop.event_consumer.epoch is
    'Grows whenever another process takes over publishing: a process that lost its lease changes nothing.';
comment on column shop.event_consumer.previous_event_id is
    'The last event that the consumer confirmed in previous_series, the series before this one. A consumer that no longer has that entry has lost the events before this series, too.';
