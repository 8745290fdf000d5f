-- no-transaction
-- For the keys that outlive their sagas, by when they are free again. A key whose saga is kept is not in it.
create index concurrently if not exists business_key_kept on engine.business_key (kept_until) where kept_until is not null;
