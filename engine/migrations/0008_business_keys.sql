-- The business keys that were used, in a table of their own, because they outlive the sagas that they started.

-- A version that stores no rows here would start sagas twice. Its hashes have no prefix, so this constraint refuses its
-- starts; sagas that ended before keep their hashes. It comes first: its lock lasts until the keys are copied, so that no
-- saga is started in between.
alter table engine.saga add constraint saga_graph_hash_has_version check (graph_hash like 'g%:%') not valid;
update engine.saga set graph_hash = 'g0:' || graph_hash
where graph_hash not like 'g%:%' and (status in ('running', 'compensating') or status = 'dead' and ended_at is null);

create table engine.business_key (
    definition text not null,
    key text not null,
    saga_id uuid not null,
    created_at timestamptz not null default now(),
    kept_until timestamptz,
    primary key (definition, key)
);

comment on table engine.business_key is
    'One row for each business key of a definition, and the saga that was started with it. While the row exists, the key starts no other saga.';
comment on column engine.business_key.kept_until is
    'When the key may be used again; null while its saga is kept.';

insert into engine.business_key (definition, key, saga_id, created_at)
select definition, business_key, id, created_at from engine.saga where business_key is not null;
