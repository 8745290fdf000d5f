-- Audit records are deleted after a long time, by a function of their owner and in no other way: see the engine's
-- migration of the same name, which has what both audits share.

drop trigger audit_is_append_only on shop.audit;
create trigger audit_is_append_only before update or delete or truncate on shop.audit
    for each statement execute function engine.refuse_change_of_audit();

create function shop.prune_audit(older_than timestamptz, most integer) returns bigint
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    deleted bigint;
begin
    perform engine.check_audit_cutoff(older_than, most);
    perform set_config('engine.pruned_audit', 'shop.audit'::regclass::oid::text, true);
    delete from shop.audit a using (
        select o.id from shop.audit o where o.at < older_than order by o.at, o.id limit most
    ) old where a.id = old.id;
    get diagnostics deleted = row_count;
    perform set_config('engine.pruned_audit', '', true);
    return deleted;
end
$$;
comment on function shop.prune_audit is
    'Deletes up to `most` of the oldest audit records, of those that are older than `older_than`, and returns how many. Refuses a time that is younger than engine.audit_retention allows.';

create function shop.audit_cutoff() returns timestamptz language sql stable as
    'select now() - keep from engine.audit_retention';
comment on function shop.audit_cutoff is 'What is older may be deleted from shop.audit; null if nothing may.';
