-- no-transaction
-- Lists go through engine.start_batch.
drop index concurrently if exists engine.saga_by_definition;
