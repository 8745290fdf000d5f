-- Who may call the API, and what people did through it.

create table shop.api_key (
    key_id       text collate "C" primary key,
    created_at   timestamptz not null default now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    name         text collate "C" not null,
    role         text collate "C" not null,
    secret_hash  bytea not null,
    constraint api_key_id check (key_id ~ '^[0-9a-f]{16}$'),
    constraint api_key_name check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    constraint api_key_role check (role in ('read', 'write', 'operate')),
    constraint api_key_secret_hash_is_sha_256 check (octet_length(secret_hash) = 32),
    constraint api_key_expires_after_creation check (expires_at > created_at)
);
comment on table shop.api_key is
    'One row an API key, never deleted, so that the audit''s keys stay known. Of the secret only its SHA-256 is kept: it is 256 random bits, so that there is nothing to guess and a slow hash would protect nothing.';
comment on column shop.api_key.key_id is 'The public part of the key, by which it is looked up.';
comment on column shop.api_key.name is
    'Who holds it. Not unique: a key is replaced by another of the same name before it is revoked.';
comment on column shop.api_key.last_used_at is 'Within a minute or so; it is written beside the requests, not by them.';

create table shop.audit (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default now(),
    actor        text not null,
    key_id       text collate "C",
    address      inet,
    action       text collate "C" not null,
    subject_kind text collate "C" not null,
    subject_id   text not null,
    reason       text,
    before       json,
    after        json,
    trace_id     text collate "C",
    constraint audit_action check (action ~ '^[a-z-]+\.[a-z-]+$'),
    constraint audit_subject_kind check (subject_kind ~ '^[a-z-]+$')
);
comment on table shop.audit is
    'What people changed: who, from where, what, why, and how it was before and after; append only, written in the commit of the change. What they did to sagas stands in engine.audit.';
create index audit_by_time on shop.audit (at, id);
create index audit_by_subject on shop.audit (subject_id, at, id);
create trigger audit_is_append_only before update or delete on shop.audit
    for each statement execute function shop.refuse_change();
