-- no-transaction
-- The requests that a process can carry out, by the graphs that it knows.
create index concurrently if not exists dead_job_requested on engine.dead_job ((request ->> 'graph_hash'), id) where request is not null and resolution is null;
