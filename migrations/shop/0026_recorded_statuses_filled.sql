-- The statuses of the rows that were there before the triggers. Processes go on meanwhile: what they change is recorded by
-- the triggers, and a record of an older status is left out by its readers.

insert into shop.order_by_status (status, order_id)
select status, order_id from shop.orders where status not in ('pending', 'confirmed')
on conflict do nothing;

insert into shop.notification_by_status (status, notification_id)
select status, notification_id from shop.notification where status in ('failed', 'cancelled')
on conflict do nothing;
