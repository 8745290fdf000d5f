-- no-transaction
-- For claims: the sagas that nobody holds, by the time at which they can go on.
create index concurrently if not exists saga_waiting on engine.saga (queue, due_at) where due_at is not null;
