-- What a step tells programs of an attempt that did not do it, beside the sentences of `error` for people.
alter table engine.history add column details jsonb;

comment on column engine.history.details is
    'Data that the step added to an attempt that failed or is to be repeated, such as the reply of a server; null when there is none.';
