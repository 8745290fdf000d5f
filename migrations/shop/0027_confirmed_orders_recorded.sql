-- Orders that stay confirmed are recorded, too, but not on their way: a process records them when they are ten minutes old
-- (docs/decisions/0039). Placing an order costs nothing for it.

create table shop.order_recording (
    singleton boolean primary key default true check (singleton),
    through   timestamptz not null default '-infinity'
) with (fillfactor = 10);
comment on table shop.order_recording is 'How far the recording of confirmed orders is; who records locks the row.';
comment on column shop.order_recording.through is
    'Every confirmed order that was accepted at this time or before is in shop.order_by_status.';
insert into shop.order_recording default values;

comment on table shop.order_by_status is
    'The status of every order that is neither pending nor confirmed, and that of the confirmed ones that shop.order_recording has reached.';

create or replace function shop.record_order_status() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from shop.order_by_status r where r.status = old.status and r.order_id = old.order_id;
    insert into shop.order_by_status (status, order_id)
    select new.status, new.order_id
    where new.status not in ('pending', 'confirmed')
       or new.status = 'confirmed' and new.created_at < now() - interval '5 minutes'
    on conflict do nothing;
    return null;
end $$;

-- An order that is confirmed late may have been passed by the recording, or will be before this transaction commits. Five
-- minutes of the ten are for transactions that take long.
create or replace trigger orders_status_recorded after update of status on shop.orders
    for each row
    when (old.status is distinct from new.status
          and (old.status not in ('pending', 'confirmed') or new.status not in ('pending', 'confirmed')
               or new.status = 'confirmed' and new.created_at < now() - interval '5 minutes'))
    execute function shop.record_order_status();

-- With the rights of the owner, as the triggers.
create function shop.record_confirmed_orders(most integer, out looked_at bigint, out recorded bigint)
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    passed  timestamptz;
    reached timestamptz;
begin
    select r.through into passed from shop.order_recording r for update skip locked;
    select count(*), max(page.created_at) into looked_at, reached
    from (
        select o.created_at from shop.orders o
        where o.created_at > passed and o.created_at < now() - interval '10 minutes'
        order by o.created_at limit most
    ) page;

    insert into shop.order_by_status (status, order_id)
    select o.status, o.order_id from shop.orders o
    where o.created_at > passed and o.created_at <= reached and o.status = 'confirmed'
    on conflict do nothing;
    get diagnostics recorded = row_count;

    update shop.order_recording r set through = reached where reached is not null;
end $$;
comment on function shop.record_confirmed_orders is
    'Records the confirmed ones of the next `most` orders (more, if that many were accepted at one time) that were accepted more than ten minutes ago. Looks at none while another transaction records.';
