-- What operators did to sagas, append only.

create table engine.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    saga_id uuid not null,
    dead_job_id uuid,
    reason text not null,
    context jsonb,
    before jsonb,
    after jsonb
);

comment on table engine.audit is 'What operators did to sagas: cancel, retry, discard.';
comment on column engine.audit.context is
    'What the caller knew about the actor''s request, as it was given: {"key_id", "address", "trace_id"}; null where only the name was known.';
comment on column engine.audit.before is 'The saga before the change: {"status", "step", "direction"}.';
comment on column engine.audit.after is
    'The saga after the change; with cancel_requested, ended or abandoned where that is so.';

create function engine.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'engine.% is append only', tg_table_name;
end
$$;
comment on function engine.refuse_change is 'Keeps the audit append only.';
create trigger audit_is_append_only before update or delete or truncate on engine.audit
    for each statement execute function engine.refuse_change();
