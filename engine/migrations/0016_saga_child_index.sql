-- no-transaction
-- A parent has one child at a place.
create unique index concurrently if not exists saga_child on engine.saga (parent_id, parent_step, parent_round, parent_position) where parent_id is not null;
