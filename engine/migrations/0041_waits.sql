-- Sleeps and signals: when a saga entered its wait, which signal ends it, and which entry of the history consumed a signal.
-- The constraints that it drops are checks.

alter table engine.saga
    add column waits_since timestamptz,
    add column signal_name text;

comment on column engine.saga.waits_for is
    'What an unleased saga waits for besides its due time: sleep (its time), signal (a message, or its time), version (a process that knows its graph), lock (a lock that another transaction holds, or its turn at a step that is slow).';
comment on column engine.saga.wait_until is 'When the wait ends at the latest that the saga has entered at this step; it is set once.';
comment on column engine.saga.waits_since is 'When the saga entered this wait.';
comment on column engine.saga.signal_name is 'The signal that ends this wait.';

alter table engine.inbox
    add column history_seq integer,
    drop constraint inbox_state_check,
    add constraint inbox_state_check check (state in ('unread', 'consumed', 'too_late', 'unreadable')) not valid;

comment on table engine.inbox is
    'Messages for sagas: cancels and signals now, the ends of children later. The sender inserts a row and waits for no lock of the saga.';
comment on column engine.inbox.history_seq is 'The entry of the saga''s history that consumed the signal.';
comment on column engine.inbox.state is
    'unread until the saga acts on the message; too_late if it could not any more; unreadable if the code that looked at it could not read it, so that only other code may take it.';
