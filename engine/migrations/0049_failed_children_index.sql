-- no-transaction
-- A parent looks for children that have ended without completing.
create index concurrently if not exists saga_failed_children on engine.saga (parent_id, parent_step, parent_round) where parent_id is not null and ended_at is not null and status <> 'completed';
