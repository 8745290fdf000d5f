-- no-transaction
-- For sagas that wait for something besides their time; there are few of them.
create index concurrently if not exists saga_waits_for on engine.saga (waits_for, definition, step) where waits_for is not null;
