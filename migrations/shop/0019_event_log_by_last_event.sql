-- no-transaction
-- The row of the log is found by its newest value, as stock is by its version: the index leads to the living version
-- first, however many dead ones a snapshot keeps.
create unique index concurrently if not exists event_log_by_last_event on shop.event_log (last_event_id);
