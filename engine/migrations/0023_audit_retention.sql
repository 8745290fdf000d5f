-- Audit records are deleted after a long time, by a function of their owner and in no other way.

create table engine.audit_retention (
    singleton boolean primary key default true check (singleton),
    keep interval default interval '3650 days',
    constraint audit_retention_is_long check (keep >= interval '365 days')
);
comment on table engine.audit_retention is
    'How long audits are kept, those of the engine and of others in this database; null for ever. Only the owner of the table can change it, as `sagaline migrate` does.';
insert into engine.audit_retention default values;

-- Where the application's role has been granted everything, it is still not the owner.
create function engine.refuse_other_roles() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if current_user <> (select pg_get_userbyid(relowner) from pg_class where oid = tg_relid) then
        raise exception 'engine.% is changed by its owner only', tg_table_name using errcode = 'insufficient_privilege';
    end if;
    return null;
end
$$;
create trigger audit_retention_is_the_owners before insert or update or delete or truncate on engine.audit_retention
    for each statement execute function engine.refuse_other_roles();

-- A delete gets through if prune_audit does it: with its mark, and as the owner. A role that is not the owner can set the
-- mark, and gets nothing from it; the owner itself could as well drop the trigger.
create function engine.refuse_change_of_audit() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE'
        and current_setting('engine.pruned_audit', true) = tg_relid::text
        and current_user = (select pg_get_userbyid(relowner) from pg_class where oid = tg_relid)
    then
        return null;
    end if;
    raise exception '%.% is append only', tg_table_schema, tg_table_name;
end
$$;
comment on function engine.refuse_change_of_audit is
    'Keeps an audit append only, but for the deletion of records that are over their time.';

drop trigger audit_is_append_only on engine.audit;
create trigger audit_is_append_only before update or delete or truncate on engine.audit
    for each statement execute function engine.refuse_change_of_audit();
drop function engine.refuse_change();

create function engine.check_audit_cutoff(older_than timestamptz, most integer) returns void
    language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    kept interval := (select keep from engine.audit_retention);
begin
    if older_than is null or most is null or most < 1 then
        raise exception 'a time and a number of records are needed' using errcode = 'null_value_not_allowed';
    elsif kept is null then
        raise exception 'audit records are kept for ever' using errcode = 'insufficient_privilege';
    elsif older_than > clock_timestamp() - kept then
        raise exception 'audit records are kept for %, and some that are older than % are not over that time', kept, older_than
            using errcode = 'insufficient_privilege';
    end if;
end
$$;
comment on function engine.check_audit_cutoff is 'Refuses to delete audit records that are not over their time.';

-- The ids grow with the time, so those at the front are the oldest.
create function engine.prune_audit(older_than timestamptz, most integer) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    deleted bigint;
begin
    perform engine.check_audit_cutoff(older_than, most);
    perform set_config('engine.pruned_audit', 'engine.audit'::regclass::oid::text, true);
    delete from engine.audit a using (
        select o.id from (select id, at from engine.audit order by id limit most) o where o.at < older_than
    ) old where a.id = old.id;
    get diagnostics deleted = row_count;
    perform set_config('engine.pruned_audit', '', true);
    return deleted;
end
$$;
comment on function engine.prune_audit is
    'Deletes up to `most` of the oldest audit records, of those that are older than `older_than`, and returns how many. Refuses a time that is younger than engine.audit_retention allows.';
