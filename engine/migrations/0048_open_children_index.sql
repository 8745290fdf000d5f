-- no-transaction
-- A parent counts its children that have not ended whenever it looks at them.
create index concurrently if not exists saga_open_children on engine.saga (parent_id, parent_step) where parent_id is not null and ended_at is null;
