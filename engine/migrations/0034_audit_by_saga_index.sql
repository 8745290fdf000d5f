-- no-transaction
-- For the audit of one saga.
create index concurrently if not exists audit_by_saga on engine.audit (saga_id);
