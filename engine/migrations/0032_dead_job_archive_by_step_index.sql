-- no-transaction
-- For lists of archived dead jobs at a step.
create index concurrently if not exists dead_job_archive_by_step on engine.dead_job_archive (step, id);
