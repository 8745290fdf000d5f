-- no-transaction
-- For lists of archived dead jobs of a definition.
create index concurrently if not exists dead_job_archive_by_definition on engine.dead_job_archive (definition, id);
