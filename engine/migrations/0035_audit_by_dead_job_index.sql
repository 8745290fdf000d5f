-- no-transaction
-- For the audit of one dead job.
create index concurrently if not exists audit_by_dead_job on engine.audit (dead_job_id) where dead_job_id is not null;
