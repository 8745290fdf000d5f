-- no-transaction
-- For lists of sagas of a definition or of a time. Neither column changes, so updates of sagas stay on their pages (HOT).
create index concurrently if not exists saga_by_definition on engine.saga (definition, created_at);
