-- Steps with children: how often one was begun anew, and when a saga that waits for its children goes on. The columns that
-- make a saga a child have been there since 0007.

alter table engine.saga
    add column round integer,
    add column round_since timestamptz,
    add column wakes_at_open integer,
    add column wakes_at_failure boolean;

comment on column engine.saga.round is
    'How often the step with children at which the saga stands was begun anew by an operator; null for never.';
comment on column engine.saga.round_since is
    'When that was. Children that have ended without completing before are opened anew, and one that does so later fails the step again.';
comment on column engine.saga.wakes_at_open is
    'While the saga waits for children: it goes on when no more than this many of them are open.';
comment on column engine.saga.wakes_at_failure is
    'While the saga waits for children: whether it also goes on when one of them has ended without completing.';
comment on column engine.saga.parent_id is 'The saga that started this one as its child.';
comment on column engine.saga.parent_step is 'The step of the parent that did.';
comment on column engine.saga.parent_round is 'How often that step had been begun anew.';
comment on column engine.saga.parent_position is 'The number of the child among those of the step, from zero.';
comment on column engine.saga.depth is 'How many ancestors the saga has.';
comment on column engine.saga.waits_for is
    'What an unleased saga waits for besides its due time: sleep (its time), signal (a message, or its time), children (their ends), version (a process that knows its graph), lock (a lock that another transaction holds, or its turn at a step that is slow).';
