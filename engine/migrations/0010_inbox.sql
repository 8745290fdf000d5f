-- What reaches a saga from outside while another transaction may hold its row.

create table engine.inbox (
    id bigint generated always as identity primary key,
    saga_id uuid not null,
    kind text not null check (kind in ('cancel', 'signal', 'child')),
    name text not null,
    key text not null,
    payload jsonb not null,
    sender text,
    created_at timestamptz not null default clock_timestamp(),
    state text not null default 'unread' check (state in ('unread', 'consumed', 'too_late')),
    settled_at timestamptz,
    unique (saga_id, kind, name, key),
    constraint inbox_settled_at check ((state = 'unread') = (settled_at is null))
);

comment on table engine.inbox is
    'Messages for sagas: cancels now, signals and the ends of children later. The sender inserts a row and waits for no lock of the saga.';
comment on column engine.inbox.key is 'Makes sending idempotent per saga, kind and name.';
comment on column engine.inbox.state is
    'unread until the saga acts on the message; too_late if it could not any more.';

create index inbox_unread on engine.inbox (saga_id, id) where state = 'unread';
