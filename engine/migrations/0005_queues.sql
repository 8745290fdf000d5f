-- The queues that an operator has paused or resumed.

create table engine.queue (
    name text primary key check (name <> '' and length(name) <= 128),
    paused boolean not null,
    paused_by text,
    reason text,
    since timestamptz not null default now(),
    version bigint not null default 0 check (version >= 0),
    constraint queue_paused_has_actor check (not paused or (paused_by is not null and reason is not null))
);

comment on table engine.queue is
    'Queues that an operator has paused or resumed; any other queue has no row. While a queue is paused, no process claims in it.';
comment on column engine.queue.since is 'The time of the last pause or resume.';
comment on column engine.queue.version is
    'How often the queue was paused, resumed or given another reason, so that two operators do not overwrite each other''s setting.';
