-- Fills an empty database with orders that have ended well, each with its placement, its mail and everything that these
-- leave behind, so that every invariant holds. Each section is one statement.
--
-- The n-th order's ids follow from n: UUIDs of version 7 whose times are evenly spread. The parameters of the sections from
-- `orders` to `history`: orders from $1 to $2, the time of the first in milliseconds since 1970 ($3), milliseconds from one
-- to the next ($4), how many products there are ($5). In `events`, $6 is the first order that has events.

-- section: products
insert into shop.product (product_id, sku, name, description, category, price, currency)
select gen_random_uuid(), format('FILL-%s', p), format('Filling %s', p), '', 'filling', 100, 'EUR'
from generate_series(0, $1::bigint - 1) p

-- section: stock
insert into shop.stock (sku, on_hand, reserved, low_stock_threshold, version)
select format('FILL-%s', p), $2::bigint, 0, 0, 1 from generate_series(0, $1::bigint - 1) p

-- section: initial_movements
insert into shop.stock_movement (sku, kind, delta_on_hand, delta_reserved, actor)
select format('FILL-%s', p), 'initial', $2::bigint, 0, 'bench' from generate_series(0, $1::bigint - 1) p

-- section: orders
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n
)
insert into shop.orders
    (order_id, customer_id, workflow_id, total, version, created_at, updated_at, currency, status, customer_email)
select (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid,
       ('0198c0de000070008000' || lpad(to_hex(n % 100000), 12, '0'))::uuid,
       (lpad(to_hex(ms), 12, '0') || '70028000' || lpad(to_hex(n), 12, '0'))::uuid,
       100, 2, to_timestamp(ms / 1000.0), to_timestamp(ms / 1000.0), 'EUR', 'confirmed', 'a@example.com'
from filled where $5::bigint > 0

-- section: order_lines
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n
)
insert into shop.order_line (order_id, line_no, sku, name, quantity, unit_price)
select (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid, 1, format('FILL-%s', n % $5::bigint),
       'Filling', 1, 100
from filled

-- section: order_timeline
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
)
insert into shop.order_timeline (order_id, version, at, status, actor)
select (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid, version,
       to_timestamp(ms / 1000.0), status, actor
from filled, (values (1, 'pending', 'bench'), (2, 'confirmed', 'place-order')) change (version, status, actor)

-- section: reservations
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n
)
insert into shop.reservation (order_id, sku, quantity, state)
select (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid, format('FILL-%s', n % $5::bigint), 1, 'held'
from filled

-- section: movements
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n
)
insert into shop.stock_movement (sku, kind, delta_on_hand, delta_reserved, order_id, at, actor)
select format('FILL-%s', n % $5::bigint), 'reserve', 0, 1,
       (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid, to_timestamp(ms / 1000.0), 'place-order'
from filled

-- section: sagas
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
), ids as (
    select n, ms, lpad(to_hex(ms), 12, '0') as time, lpad(to_hex(n), 12, '0') as rest,
           (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid as order_id
    from filled
)
insert into engine.saga
    (id, definition, graph_hash, queue, status, step, direction, history_seq, epoch, business_key, input, created_at, ended_at,
     in_start_batch, arms)
select (time || saga.kind || rest)::uuid, saga.definition, graph.hash, saga.queue, 'completed', saga.step, 'action', saga.entries, 1,
       saga.key || order_id,
       case saga.kind when '70028000'
           then jsonb_build_object('order_id', order_id, 'items', jsonb_build_array())
           else jsonb_build_object('to', 'a@example.com') end,
       to_timestamp(ms / 1000.0), to_timestamp(ms / 1000.0), true, saga.arms
from ids, (values
    ('70028000', 'place-order', 'default', 'queue-confirmation', '', 5, 'n'),
    ('70038000', 'deliver-notification', 'notifications', 'record-delivery', 'order-confirmed:', 4, null)
) saga (kind, definition, queue, step, key, entries, arms)
join engine.graph using (definition)
-- Earlier graphs of `place-order` have no choice.
where saga.arms is null or graph.graph -> 'steps' @> '[{"name": "awaits-payment"}]'
-- As they come into being: one beside the other.
order by n, saga.kind

-- section: start_batches
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
)
insert into engine.start_batch (definition, started_at, saga_ids)
select saga.definition, to_timestamp(ms / 1000.0),
       array[(lpad(to_hex(ms), 12, '0') || saga.kind || lpad(to_hex(n), 12, '0'))::uuid]
from filled, (values ('70028000', 'place-order'), ('70038000', 'deliver-notification')) saga (kind, definition)

-- section: business_keys
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
), ids as (
    select n, ms, lpad(to_hex(ms), 12, '0') as time, lpad(to_hex(n), 12, '0') as rest,
           (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid as order_id
    from filled
)
insert into engine.business_key (definition, key, saga_id, created_at)
select saga.definition, saga.prefix || order_id, (time || saga.kind || rest)::uuid, to_timestamp(ms / 1000.0)
from ids, (values
    ('70028000', 'place-order', ''),
    ('70038000', 'deliver-notification', 'order-confirmed:')
) saga (kind, definition, prefix)

-- section: notifications
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
), ids as (
    select n, ms, (lpad(to_hex(ms), 12, '0') || '70038000' || lpad(to_hex(n), 12, '0'))::uuid as notification_id from filled
)
insert into shop.notification (notification_id, created_at, updated_at, status, recipient, subject, text, message_id)
select notification_id, to_timestamp(ms / 1000.0), to_timestamp(ms / 1000.0), 'sent', 'a@example.com', 'Filling', 'Filling',
       format('<%s.send-mail@example.com>', notification_id)
from ids

-- section: history
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
)
insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, epoch)
select (lpad(to_hex(ms), 12, '0') || entry.kind || lpad(to_hex(n), 12, '0'))::uuid, entry.seq, entry.step, 'action', 'done', 1,
       to_timestamp(ms / 1000.0), 1, entry.output::jsonb, entry.epoch
from filled, (values
    ('70028000', 1, 'open-order', 0, '{}'), ('70028000', 2, 'reserve-stock', 1, '{}'),
    ('70028000', 3, 'awaits-payment', 1, '"no"'), ('70028000', 4, 'confirm-order', 1, '{}'),
    ('70028000', 5, 'queue-confirmation', 1, '{}'),
    ('70038000', 1, 'store-notification', 0, '{}'), ('70038000', 2, 'begin-delivery', 1, '{}'),
    ('70038000', 3, 'send-mail', 1, '{}'), ('70038000', 4, 'record-delivery', 1, '{}')
) entry (kind, seq, step, epoch, output)

-- section: events
with filled as (
    select n, $3::bigint + n * $4::bigint as ms from generate_series($1::bigint, $2::bigint) n where $5::bigint > 0
)
insert into shop.event (event_id, at, routing_key, key, payload)
select (n - $6::bigint) * 4 + event.number, to_timestamp(ms / 1000.0), event.routing_key,
       (lpad(to_hex(ms), 12, '0') || '70018000' || lpad(to_hex(n), 12, '0'))::uuid::text, '{}'
from filled, (values
    (1, 'order.created'), (2, 'inventory.reserved'), (3, 'order.confirmed'), (4, 'notification.sent')
) event (number, routing_key)

-- section: reserved_stock
update shop.stock s set reserved = r.reserved, version = 1 + r.reserved
from (select sku, count(*) as reserved from shop.reservation group by sku) r where r.sku = s.sku

-- section: last_event
update shop.event_log set last_event_id = coalesce((select max(event_id) from shop.event), 0)
