-- no-transaction
-- The signals that a wait may take: the oldest of a name that are unread, and those that some other code may be able to read.
create index concurrently if not exists inbox_open on engine.inbox (saga_id, kind, name, id) where state in ('unread', 'unreadable');
