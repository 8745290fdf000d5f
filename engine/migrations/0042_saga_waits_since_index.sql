-- no-transaction
-- For how long the oldest saga of each kind has been waiting.
create index concurrently if not exists saga_waits_since on engine.saga (waits_for, waits_since) where waits_since is not null;
