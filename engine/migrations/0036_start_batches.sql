-- What leads to the sagas of a definition in the order of their starts (docs/decisions/0044).
--
-- An index on engine.saga would have two entries a saga, one for its start and one for its end: an update that ends a lease or a
-- wait is in other indexes' columns, so it is entered into every index again. A batch has one row for all its sagas.

-- Arrays of up to 500 ids stay in their row, uncompressed.
create table engine.start_batch (
    definition text not null,
    started_at timestamptz not null default now(),
    saga_ids uuid[] not null
) with (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
alter table engine.start_batch alter column saga_ids set storage external;
create index start_batch_by_definition on engine.start_batch (definition, started_at);

comment on table engine.start_batch is
    'The sagas of a definition that one statement started. A reader looks each up, and leaves out those that are gone.';
comment on column engine.start_batch.started_at is 'The created_at of these sagas.';

-- Null for the sagas that were there before: the next migration lists them.
alter table engine.saga add column in_start_batch boolean;
alter table engine.saga alter column in_start_batch set default false;
comment on column engine.saga.in_start_batch is
    'Whether the statement that started the saga lists it in engine.start_batch; if it is false, a trigger did.';

-- For sagas that a process of an older version starts, or anything else inserts. Both functions have the rights of the owner, so that
-- the roles of processes need not be granted anything before they go on.
create function engine.list_start() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into engine.start_batch (definition, started_at, saga_ids)
    values (new.definition, new.created_at, array[new.id]);
    return null;
end $$;

create trigger saga_listed after insert on engine.saga
    for each row when (not new.in_start_batch) execute function engine.list_start();

create function engine.delete_start_batches() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Locked first, so that of two transactions that delete sagas of one batch the later one sees what both have left.
    perform from engine.start_batch b
    where (b.definition, b.started_at) in (select definition, created_at from gone)
    order by b.definition, b.started_at for update;

    delete from engine.start_batch b
    where (b.definition, b.started_at) in (select definition, created_at from gone)
      and not exists (
        select from unnest(b.saga_ids) as member (id) join engine.saga s on s.id = member.id
        where s.created_at = b.started_at);
    return null;
end $$;

create trigger saga_start_batches_deleted after delete on engine.saga
    referencing old table as gone for each statement execute function engine.delete_start_batches();
