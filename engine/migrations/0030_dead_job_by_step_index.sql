-- no-transaction
-- For lists of dead jobs at a step.
create index concurrently if not exists dead_job_by_step on engine.dead_job (step, id);
