-- What leads to the orders and notifications in a status, however few of many they are.
--
-- An index on the status would end the HOT updates of these tables. So the statuses that no order has on its way to
-- `confirmed`, and no notification on its way to `sent`, are recorded here, by triggers, whoever changes them; placing an
-- order never calls them. What a saga is to change soon (an order's `pending`; a notification's `pending` and `sending`)
-- is found through the sagas. Readers look each row up and leave out what does not have the status.

create table shop.order_by_status (
    status   text collate "C" not null,
    order_id uuid not null,
    primary key (status, order_id)
);
comment on table shop.order_by_status is 'The status of every order that is neither pending nor confirmed.';

create table shop.notification_by_status (
    status          text collate "C" not null,
    notification_id uuid not null,
    primary key (status, notification_id)
);
comment on table shop.notification_by_status is 'The notifications that failed or were cancelled.';

-- With the rights of the owner, so that the roles of processes need not be granted anything before they go on.
create function shop.record_order_status() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from shop.order_by_status r where r.status = old.status and r.order_id = old.order_id;
    insert into shop.order_by_status (status, order_id)
    select new.status, new.order_id where new.status not in ('pending', 'confirmed')
    on conflict do nothing;
    return null;
end $$;

create trigger orders_status_recorded after update of status on shop.orders
    for each row
    when (old.status is distinct from new.status
          and (old.status not in ('pending', 'confirmed') or new.status not in ('pending', 'confirmed')))
    execute function shop.record_order_status();

create function shop.record_notification_status() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from shop.notification_by_status r
    where r.status = old.status and r.notification_id = old.notification_id;
    insert into shop.notification_by_status (status, notification_id)
    select new.status, new.notification_id where new.status in ('failed', 'cancelled')
    on conflict do nothing;
    return null;
end $$;

-- Deliveries that go well never call it.
create trigger notification_status_recorded after update of status on shop.notification
    for each row
    when (old.status is distinct from new.status
          and (old.status in ('failed', 'cancelled') or new.status in ('failed', 'cancelled')))
    execute function shop.record_notification_status();
