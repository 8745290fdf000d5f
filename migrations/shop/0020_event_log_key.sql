-- A key on `singleton` would have every version of the row under one key. That there is one row follows from the only
-- insert, which is in the migration that creates the table.
alter table shop.event_log
    add constraint event_log_key primary key using index event_log_by_last_event,
    drop constraint event_log_pkey,
    reset (fillfactor);
comment on table shop.event_log is
    'One row: the last id given. The process that moves events from the outbox into the log locks it, so that ids are given one round after the other. Read and lock it by its newest value (`order by last_event_id desc limit 1`).';
