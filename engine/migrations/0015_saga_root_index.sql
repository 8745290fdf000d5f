-- no-transaction
-- For trees of sagas.
create index concurrently if not exists saga_root on engine.saga (root_id) where root_id is not null;
