-- How many sagas a process can hold at a time, for those who look at its load.

alter table engine.process add column capacity integer check (capacity >= 0);

comment on column engine.process.capacity is
    'How many sagas the process holds at most on its queues; null if a version before this column wrote the row.';
