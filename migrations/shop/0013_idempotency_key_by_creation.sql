-- no-transaction
-- Expired idempotency keys are deleted oldest first. The time of creation changes only when an expired key is used
-- again, so storing a response stays on its page (HOT), and new entries land at the right end.

create index concurrently if not exists idempotency_key_by_creation on shop.idempotency_key (created_at);
