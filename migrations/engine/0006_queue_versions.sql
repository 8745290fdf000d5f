-- A queue's setting has a version, so that two people do not overwrite each other's.

alter table engine.queue add column version bigint not null default 0 check (version >= 0);
comment on column engine.queue.version is 'How often the queue was paused, resumed or given another reason.';
