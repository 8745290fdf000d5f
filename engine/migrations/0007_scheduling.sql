-- When a saga goes on, until when it is leased, and what it waits for, each in a column of its own; and the columns of
-- sagas that are children of others.
--
-- Before, due_at was the end of the lease while a saga was leased. Sagas that an older version holds are still stored so:
-- they have a due_at and a lease_owner. A claim takes them over like those whose lease_until has passed.

alter table engine.saga
    drop constraint saga_active_is_due,
    add column lease_until timestamptz,
    add column wait_until timestamptz,
    add column waits_for text,
    add column priority smallint not null default 0,
    add column root_id uuid,
    add column parent_id uuid,
    add column parent_step text,
    add column parent_round integer,
    add column parent_position integer,
    add column depth smallint not null default 0 check (depth >= 0),
    add column result jsonb;

comment on column engine.saga.due_at is
    'When the saga can go on; null while it is leased, waits for something without a limit of time, or rests.';
comment on column engine.saga.lease_until is 'When the lease ends unless it is extended; null while nobody holds the saga.';
comment on column engine.saga.wait_until is 'When a wait ends that the saga has entered.';
comment on column engine.saga.waits_for is
    'What an unleased saga waits for besides its time: version (a process that knows its step), lock (a lock that another transaction holds, or its turn at a step that is slow).';
comment on column engine.saga.priority is 'Reserved: the order of claims does not depend on it yet.';
comment on column engine.saga.root_id is 'The topmost ancestor of a child; null for a saga without a parent.';
comment on column engine.saga.result is 'What the saga gave as its result, if its definition declares one.';

alter table engine.saga
    add constraint saga_active_moves check (
        (status in ('running', 'compensating')) = (due_at is not null or lease_until is not null or waits_for is not null)
    ) not valid,
    add constraint saga_waits_or_is_leased check (due_at is null or lease_until is null) not valid,
    add constraint saga_lease_has_owner check (lease_until is null or lease_owner is not null) not valid,
    add constraint saga_child_is_placed check (
        (parent_id is null) = (root_id is null)
        and (parent_id is null) = (parent_step is null)
        and (parent_id is null) = (parent_round is null)
        and (parent_id is null) = (parent_position is null)
    ) not valid;

-- Every saga is updated a few times within seconds and then never again, so vacuum must not wait for a fifth of a large
-- table. Below a fiftieth it would leave the dead entries in the indexes.
alter table engine.saga set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);

alter table engine.history
    add column round integer not null default 0 check (round >= 0),
    add column arm text;

comment on column engine.history.round is 'How often the step was begun anew as a whole; 0 at first.';
comment on column engine.history.arm is 'The arm that a choice took.';
