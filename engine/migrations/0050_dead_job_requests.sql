-- What operators asked for on dead jobs through processes that lack the code of their sagas.

alter table engine.dead_job
    add column request jsonb,
    add column refused_request jsonb;
alter table engine.dead_job_archive
    add column request jsonb,
    add column refused_request jsonb;

comment on column engine.dead_job.request is
    'What an operator asked for while the dead job was open, through a process that lacks the saga''s code: the action, by whom, why and when, and the hash of the saga''s graph. A process that knows this graph carries it out. It is void once the dead job is resolved.';
comment on column engine.dead_job.refused_request is
    'The last request, if it was refused when it was to be carried out, with the reason and the time.';
