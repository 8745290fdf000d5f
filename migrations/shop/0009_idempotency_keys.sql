-- Stored responses, so that a repeated request gets the same one.

create table shop.idempotency_key (
    scope       text collate "C" not null,
    key         text collate "C" not null,
    resource_id uuid not null,
    holder      uuid not null,
    created_at  timestamptz not null default now(),
    started_at  timestamptz not null default now(),
    status      smallint,
    body_hash   bytea not null,
    location    text,
    body        text,
    primary key (scope, key),
    constraint idempotency_key_length check (char_length(key) between 1 and 255),
    constraint idempotency_key_status check (status between 100 and 599),
    constraint idempotency_key_answered check ((status is null) = (body is null))
) with (fillfactor = 40);
comment on table shop.idempotency_key is
    'One row per Idempotency-Key and scope (the operation and the caller), kept for 24 hours. Without a status the key is in flight; after 60 seconds of that another request may take it over. It creates under the same resource_id, so that a crash in between never makes two resources.';
comment on column shop.idempotency_key.holder is
    'The request that has the key in flight. A request whose own start got no answer can still free its key, and no other.';
