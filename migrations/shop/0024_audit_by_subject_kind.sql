-- no-transaction
-- For the audit of one kind of subject, without the placements of orders.
create index concurrently if not exists audit_by_subject_kind on shop.audit (subject_kind, at, id) where action <> 'order.place';
