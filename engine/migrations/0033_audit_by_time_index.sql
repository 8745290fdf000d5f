-- no-transaction
-- For the audit, newest first.
create index concurrently if not exists audit_by_time on engine.audit (at, id);
