-- The audit tells from where, and how it was before and after; and it is append only, as the shop's.

alter table engine.audit
    add column context jsonb,
    add column before jsonb,
    add column after jsonb;

comment on column engine.audit.context is
    'What the caller knew of how the actor came in, as it was given: {"key_id", "address", "trace_id"}; null where only the name was known.';
comment on column engine.audit.before is 'How the saga was: {"status", "step", "direction"}; null before this was recorded.';
comment on column engine.audit.after is
    'How it was afterwards; with cancel_requested, ended or abandoned where that is so.';

create function engine.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'engine.% is append only', tg_table_name;
end
$$;
comment on function engine.refuse_change is 'Keeps the audit append only.';
create trigger audit_is_append_only before update or delete or truncate on engine.audit
    for each statement execute function engine.refuse_change();
