-- no-transaction
-- For claims of sagas whose holders vanished; there are few of them.
create index concurrently if not exists saga_suspect on engine.saga (queue) where lease_owner is not null and lost_attempts >= 1;
