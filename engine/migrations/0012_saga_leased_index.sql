-- no-transaction
-- For claims: the sagas that a process holds, by the end of the lease, so that another can take them over.
create index concurrently if not exists saga_leased on engine.saga (queue, lease_until) where lease_until is not null;
