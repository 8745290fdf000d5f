-- no-transaction
-- For the audit of one action. The placements of orders, of which there are by far the most, are not in it and cost
-- nothing.
create index concurrently if not exists audit_by_action on shop.audit (action, at, id) where action <> 'order.place';
