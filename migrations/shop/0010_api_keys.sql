-- The keys that give access to the API.

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
    'One row per API key, never deleted, so that the keys in the audit stay known. Only the SHA-256 of the secret is kept: the secret is 256 random bits, so it can''t be guessed, and a slow hash would protect nothing.';
comment on column shop.api_key.key_id is 'The public part of the key, by which it is looked up.';
comment on column shop.api_key.name is
    'The holder of the key. Not unique: a key is replaced by another of the same name before it is revoked.';
comment on column shop.api_key.last_used_at is 'Accurate to about a minute; it is written beside the requests, not by them.';
