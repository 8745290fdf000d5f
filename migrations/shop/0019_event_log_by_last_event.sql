-- The row of the log is found by its newest value, as stock is by its version: its index leads to the living version
-- first, however many dead ones a snapshot keeps.
alter table shop.event_log
    drop constraint event_log_pkey,
    add constraint event_log_key primary key (last_event_id),
    reset (fillfactor);
comment on table shop.event_log is
    'One row: the last id given. The process that moves events from the outbox into the log locks it, so that ids are given one round after the other. Read and lock it by its newest value (`order by last_event_id desc limit 1`).';
