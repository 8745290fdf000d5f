-- no-transaction
-- Cancels that wait for their saga: without the signals that are kept for days.
create index concurrently if not exists inbox_cancels on engine.inbox (saga_id, id) where state = 'unread' and kind = 'cancel';
