-- Since when a step has been put off without an attempt, so that no saga is put off for ever. A process of an older version
-- does not write it: its snoozes have no limit, and what it leaves here makes the next limit come sooner.

alter table engine.saga add column postponed_since timestamptz;

comment on column engine.saga.postponed_since is
    'When the first of the snoozes in a row was that put the step off; null if its last attempt was made.';
