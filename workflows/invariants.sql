-- What must hold of a database at any moment. A section begins with a line that gives its number and its name, and has one
-- query or several. Each returns no row when all is well, and else one text a violation, named `violation`.
--
-- The line `-- over:` before a query says which rows it starts from, so that a large database can be checked in parts:
--
--   unfinished  sagas that are unfinished or dead, and open dead jobs; partial indexes find them
--   ids         sagas, orders, returns and notifications with ids from $1 up to, and not including, $2 (uuid)
--   times       rows that were created from $1 up to, and not including, $2 (timestamptz)
--   skus        products with SKUs after $1, up to and including $2 (text)
--   all         whole tables; only a check of everything runs it
--
-- What is deleted after a time is not lost: `engine.pruned` and `shop.pruning` say up to when rows may be gone. A row that is
-- younger is missed.
--
-- A query may look anything up by an index, but starts from these rows only. Where it joins two tables over the same ids, it
-- limits both, so that the planner need not find out that the second is limited, too. A row that is checked by its own range is not
-- checked again by another's.
--
-- Invariant 8 (history, folded through the pure transition, gives the stored state) and 9 (pool, tasks and file
-- descriptors return to where they were) can't be told in SQL; they are checked in Rust.

-- name: 1 every acknowledged order exists, and no key maps to two orders
-- over: times
select format('key %s of scope %s was answered with %s, which does not exist', k.key, k.scope, k.location) as violation
from shop.idempotency_key k
where k.created_at >= $1 and k.created_at < $2
  and k.status = 201 and k.location ~ '/api/orders/[0-9a-f-]{36}$'
  and not exists (select from shop.orders o where o.order_id = right(k.location, 36)::uuid);
-- over: ids
-- So two placements never share an order.
select format('saga %s does not hold its business key %s', s.id, s.business_key) as violation
from engine.saga s
where s.id >= $1 and s.id < $2 and s.business_key is not null and not exists (
    select from engine.business_key k where k.definition = s.definition and k.key = s.business_key and k.saga_id = s.id)
union all
select format('saga %s placed no order', s.id)
from engine.saga s
where s.id >= $1 and s.id < $2 and s.definition = 'place-order' and not exists (
    select from shop.orders o where o.order_id = (s.input ->> 'order_id')::uuid and o.workflow_id = s.id)
union all
-- So two orders never share a saga.
select format('order %s names saga %s, which %s', o.order_id, o.workflow_id,
              case when s.id is null then 'does not exist' else 'does not place it' end)
from shop.orders o left join engine.saga s on s.id = o.workflow_id
where o.order_id >= $1 and o.order_id < $2 and (s.input ->> 'order_id')::uuid is distinct from o.order_id
  and not (s.id is null and exists (
    select from engine.pruned p where p.definition = 'place-order' and p.started_through >= o.created_at));

-- name: 2 no saga is unfinished and overdue, and nothing waits for ever
-- over: unfinished
with moving as (
    select id, definition, queue, step, coalesce(lease_until, due_at) as next_at,
           case when waits_for in ('sleep', 'signal', 'children') then coalesce(wait_until, due_at) end as wait_until
    from engine.saga where due_at is not null
    union all
    select id, definition, queue, step, lease_until, null
    from engine.saga where lease_until is not null and due_at is null
)
select format('saga %s (%s) at %s is overdue by %s', s.id, s.definition, s.step, date_trunc('second', now() - s.next_at))
       as violation
from moving s
where s.next_at < now() - interval '30 seconds'
  and not exists (select from engine.queue q where q.name = s.queue and q.paused)
  -- Mails that the breaker before the mail server holds back stay due.
  and not (s.queue = 'notifications' and exists (
    select from shop.circuit_breaker b
    where b.dependency = 'smtp' and b.state <> 'closed' and b.seen_at > now() - interval '30 seconds'))
union all
select format('saga %s (%s) at %s waits until %s', s.id, s.definition, s.step, s.next_at)
from moving s
where s.next_at > now() + interval '1 day' and s.next_at > coalesce(s.wait_until, '-infinity')
union all
select format('saga %s (%s) is %s, and its row still has a wait', s.id, s.definition, s.status)
from engine.saga s
where s.waits_since is not null and s.status in ('completed', 'compensated')
union all
select format('saga %s (%s) is dead, and no dead job tells of it', s.id, s.definition)
from engine.saga s
where s.status = 'dead' and s.ended_at is null
  and not exists (select from engine.dead_job d where d.saga_id = s.id and d.resolution is null)
union all
select format('dead job %s waits for a saga that is %s', d.id, coalesce(s.status, 'gone'))
from engine.dead_job d left join engine.saga s on s.id = d.saga_id
where d.resolution is null and s.status is distinct from 'dead';
-- over: ids
select format('order %s is %s, and no saga moves it', o.order_id, o.status) as violation
from shop.orders o
where o.order_id >= $1 and o.order_id < $2 and o.status in ('pending', 'cancelling')
  and not exists (
    select from engine.saga s where s.id = o.workflow_id
      and (s.status in ('running', 'compensating') or s.status = 'dead' and s.ended_at is null))
  and not exists (
    select from engine.business_key k join engine.saga s on s.id = k.saga_id
    where k.definition = 'cancel-order' and k.key = o.order_id::text
      and (s.status in ('running', 'compensating') or s.status = 'dead' and s.ended_at is null));

-- name: 3 undone steps were started, are undone in reverse order and once, and never in a completed saga
-- over: ids
with undone as (
    select u.saga_id, u.step, u.seq,
           (select min(a.seq) from engine.history a
            where a.saga_id = u.saga_id and a.step = u.step and a.direction = 'action' and a.seq < u.seq) as started
    from engine.history u where u.saga_id >= $1 and u.saga_id < $2 and u.direction = 'undo' and u.outcome = 'done'
), ordered as (
    select saga_id, step, seq, started, lag(started) over (partition by saga_id order by seq) as undone_before
    from undone
)
select format('saga %s undid %s, which it had not started', saga_id, step) as violation
from undone where started is null
union all
select format('saga %s undid %s out of order', saga_id, step)
from ordered where undone_before <= started
union all
select format('saga %s undid %s %s times', saga_id, step, count(*))
from undone group by saga_id, step having count(*) > 1
union all
select format('saga %s is completed and undid %s', s.id, u.step)
from undone u join engine.saga s on s.id = u.saga_id where s.status = 'completed';

-- name: 4 each saga, step and direction has at most one effect
-- over: ids
select format('saga %s did the %s of %s %s times', h.saga_id, h.direction, h.step, count(*)) as violation
from engine.history h where h.saga_id >= $1 and h.saga_id < $2 and h.outcome = 'done'
group by h.saga_id, h.step, h.direction having count(*) > 1
union all
select format('order %s became %s %s times', t.order_id, t.status, count(*))
from shop.order_timeline t where t.order_id >= $1 and t.order_id < $2
group by t.order_id, t.status having count(*) > 1;
-- over: skus
select format('order %s reserved %s %s times', m.order_id, m.sku, count(*)) as violation
from shop.stock_movement m where m.sku > $1 and m.sku <= $2 and m.kind = 'reserve'
group by m.order_id, m.sku having count(*) > 1
union all
select format('order %s gave back or shipped %s %s times', m.order_id, m.sku, count(*))
from shop.stock_movement m where m.sku > $1 and m.sku <= $2 and m.kind in ('release', 'ship')
group by m.order_id, m.sku having count(*) > 1;

-- name: 5 the epochs of accepted writes never fall
-- over: ids
select format('saga %s wrote entry %s in epoch %s after epoch %s', saga_id, seq, epoch, epoch_before) as violation
from (
    select saga_id, seq, epoch, lag(epoch) over (partition by saga_id order by seq) as epoch_before
    -- The entries of a run have one epoch.
    from engine.history_run where saga_id >= $1 and saga_id < $2
) h
where epoch < epoch_before
union all
select format('saga %s is in epoch %s, and wrote in epoch %s', s.id, s.epoch, h.epoch)
from engine.saga s
-- Saga by saga: joined over the same range, two tables whose statistics are old can cost the product of their rows.
cross join lateral (select max(r.epoch) as epoch from engine.history_run r where r.saga_id = s.id) h
where s.id >= $1 and s.id < $2 and h.epoch > s.epoch;

-- name: 6 stock, ledger and reservations agree, and nothing is oversold
-- over: skus
with ledger as (
    select sku, sum(delta_on_hand) as on_hand, sum(delta_reserved) as reserved,
           count(*) filter (where kind = 'initial') as initial
    from shop.stock_movement where sku > $1 and sku <= $2 group by sku
), stock as (
    select sku, on_hand, reserved from shop.stock where sku > $1 and sku <= $2
)
select format('%s has %s on hand and %s reserved, by the ledger %s and %s', coalesce(s.sku, l.sku), s.on_hand, s.reserved,
              l.on_hand, l.reserved) as violation
from stock s full join ledger l on l.sku = s.sku
where s.on_hand is distinct from l.on_hand or s.reserved is distinct from l.reserved
union all
select format('%s has %s first entries in its ledger', l.sku, l.initial)
from ledger l where l.initial <> 1
union all
select format('%s is oversold: %s on hand, %s reserved', s.sku, s.on_hand, s.reserved)
from stock s where s.on_hand - s.reserved < 0 or s.reserved < 0
union all
select format('product %s has no stock', p.sku)
from shop.product p where p.sku > $1 and p.sku <= $2 and not exists (select from stock s where s.sku = p.sku);
-- over: all
with held as (
    select sku, sum(quantity) as reserved from shop.reservation where state = 'held' group by sku
)
select format('%s has %s reserved, and orders hold %s', coalesce(s.sku, h.sku), s.reserved, coalesce(h.reserved, 0))
       as violation
from shop.stock s full join held h on h.sku = s.sku
where s.reserved is distinct from coalesce(h.reserved, 0);
-- over: ids
with lines as (
    select order_id, sku, sum(quantity) as quantity from shop.order_line
    where order_id >= $1 and order_id < $2 group by order_id, sku
), reservations as (
    select order_id, sku, quantity, state from shop.reservation where order_id >= $1 and order_id < $2
)
select format('order %s is %s and holds %s of %s, of %s ordered (%s)', o.order_id, o.status, coalesce(r.quantity, 0),
              coalesce(l.sku, r.sku), coalesce(l.quantity, 0), coalesce(r.state, 'nothing')) as violation
from lines l
full join reservations r on r.order_id = l.order_id and r.sku = l.sku
left join shop.orders o on o.order_id = coalesce(l.order_id, r.order_id) and o.order_id >= $1 and o.order_id < $2
where o.order_id is null
   or (o.status in ('confirmed', 'processing') and (r.state is distinct from 'held' or r.quantity <> l.quantity))
   or (o.status in ('shipped', 'delivered', 'returned') and (r.state is distinct from 'consumed' or r.quantity <> l.quantity)
       and not (r.state is null and o.status in ('delivered', 'returned') and exists (
         select from shop.pruning p where p.rows = 'reservations'
           -- They may have been deleted before the order was returned.
           and p.through >= coalesce((
             select max(t.at) from shop.order_timeline t
             where t.order_id = o.order_id and t.status <> 'returned'), o.updated_at))))
   or (o.status in ('rejected', 'cancelled') and r.state is not null and r.state <> 'released')
union all
select format('order %s has a total of %s, and its lines sum up to %s', o.order_id, o.total, sum(l.quantity * l.unit_price))
from shop.orders o left join shop.order_line l on l.order_id = o.order_id
where o.order_id >= $1 and o.order_id < $2
group by o.order_id having o.total is distinct from sum(l.quantity * l.unit_price)
union all
select format('order %s is %s at version %s, its timeline %s at %s with %s entries', o.order_id, o.status, o.version,
              last.status, last.version, last.entries)
from shop.orders o
left join lateral (
    select t.status, t.version, count(*) over () as entries
    from shop.order_timeline t where t.order_id = o.order_id order by t.version desc limit 1
) last on true
where o.order_id >= $1 and o.order_id < $2
  and (o.status, o.version, o.version) is distinct from (last.status, last.version, last.entries);

-- name: 7 every order that settled has its notification, under one Message-ID
-- over: ids
with settled as (
    select o.order_id,
           case
               when p.status = 'completed' then 'order-confirmed:'
               when o.status = 'rejected' then 'order-rejected:'
               when o.status = 'cancelled' then 'order-cancelled:'
           end || o.order_id as business_key,
           o.created_at as since
    from shop.orders o join engine.saga p on p.id = o.workflow_id
    where o.order_id >= $1 and o.order_id < $2 and p.status in ('completed', 'compensated')
    union all
    select (c.input ->> 'order_id')::uuid, 'order-cancelled:' || (c.input ->> 'order_id'), c.created_at
    from engine.saga c
    where c.id >= $1 and c.id < $2 and c.definition = 'cancel-order' and c.status = 'completed'
    union all
    select r.order_id,
           case when r.status = 'completed' then 'return-received:' else 'return-closed:' end || r.return_id, r.created_at
    from shop.order_return r join engine.saga s on s.id = r.workflow_id
    where r.return_id >= $1 and r.return_id < $2 and s.status in ('completed', 'compensated')
    union all
    select o.order_id, 'order-shipped:' || o.order_id, o.created_at
    from shop.orders o where o.order_id >= $1 and o.order_id < $2 and o.status in ('shipped', 'delivered', 'returned')
)
select format('order %s has no notification %s', t.order_id, coalesce(t.business_key, 'of any kind')) as violation
from settled t
where not exists (
    select from engine.business_key k join shop.notification n on n.notification_id = k.saga_id
    where k.definition = 'deliver-notification' and k.key = t.business_key)
  and not exists (select from engine.pruned p where p.definition = 'deliver-notification' and p.keys_through >= t.since)
union all
select format('notification %s has no saga', n.notification_id)
from shop.notification n
where n.notification_id >= $1 and n.notification_id < $2
  and not exists (select from engine.saga s where s.id = n.notification_id)
  and not exists (
    select from engine.pruned p where p.definition = 'deliver-notification' and p.started_through >= n.created_at)
union all
select format('saga %s is completed, and its notification is %s', s.id, coalesce(n.status, 'missing'))
from engine.saga s left join shop.notification n on n.notification_id = s.id
where s.id >= $1 and s.id < $2
  and s.definition = 'deliver-notification' and s.status = 'completed' and n.status is distinct from 'sent'
union all
-- So no two notifications share a Message-ID.
select format('notification %s was sent as %s', n.notification_id, n.message_id)
from shop.notification n
where n.notification_id >= $1 and n.notification_id < $2
  and n.message_id not like format('<%s.send-mail@%%>', n.notification_id);

-- name: 10 nothing is left of a saga that was deleted, and no key waits for one
-- over: ids
select format('saga %s does not exist, and its history is left', h.saga_id) as violation
from engine.history_run h
where h.saga_id >= $1 and h.saga_id < $2 and not exists (select from engine.saga s where s.id = h.saga_id)
group by h.saga_id
union all
select format('saga %s does not exist, and a message for it is left', i.saga_id)
from engine.inbox i
where i.saga_id >= $1 and i.saga_id < $2 and not exists (select from engine.saga s where s.id = i.saga_id)
group by i.saga_id
union all
select format('saga %s does not exist, and the progress of its call is left', p.saga_id)
from engine.progress p
where p.saga_id >= $1 and p.saga_id < $2 and not exists (select from engine.saga s where s.id = p.saga_id);
-- over: all
select format('key %s of %s is kept for saga %s, which does not exist', k.key, k.definition, k.saga_id) as violation
from engine.business_key k
where k.kept_until is null and not exists (select from engine.saga s where s.id = k.saga_id);

-- name: 11 the lists by status and by start have every order, mail and saga
-- over: ids
select format('order %s is %s, and its status is not recorded', o.order_id, o.status) as violation
from shop.orders o
where o.order_id >= $1 and o.order_id < $2 and o.status <> 'pending'
  and (o.status <> 'confirmed' or o.created_at <= (select through from shop.order_recording))
  and not exists (
    select from shop.order_by_status r where r.status = o.status and r.order_id = o.order_id)
union all
select format('notification %s is %s, and its status is not recorded', n.notification_id, n.status)
from shop.notification n
where n.notification_id >= $1 and n.notification_id < $2 and n.status in ('failed', 'cancelled') and not exists (
    select from shop.notification_by_status r where r.status = n.status and r.notification_id = n.notification_id)
union all
-- Saga by saga: an anti-join could read all batches for a few sagas.
select format('saga %s (%s) is in %s batches of starts', s.id, s.definition, b.batches)
from engine.saga s
cross join lateral (
    select count(*) as batches from engine.start_batch b
    where b.definition = s.definition and b.started_at = s.created_at and s.id = any (b.saga_ids)) b
where s.id >= $1 and s.id < $2 and b.batches <> 1;

-- name: 12 what a compensated saga had done is undone, whatever its graph
-- over: ids
select distinct format('saga %s is compensated, and %s is done and not undone', s.id, a.step) as violation
from engine.saga s
join engine.graph g on g.hash = s.graph_hash
cross join lateral jsonb_array_elements(g.graph -> 'steps') node
join engine.history a
    on a.saga_id = s.id and a.step = node ->> 'name' and a.direction = 'action' and a.outcome in ('done', 'opened')
where s.id >= $1 and s.id < $2 and s.status = 'compensated' and node ->> 'undo' = 'undone'
  and not exists (
    select from engine.history u
    where u.saga_id = s.id and u.step = a.step and u.direction = 'undo' and u.outcome = 'done' and u.seq > a.seq);

-- name: 13 a signal is taken once, and no saga waits for one that it has
-- over: unfinished
select format('saga %s (%s) waits at %s for the signal %s, which came %s ago', s.id, s.definition, s.step, i.name,
              date_trunc('second', now() - min(i.created_at))) as violation
from engine.saga s join engine.inbox i on i.saga_id = s.id
where s.waits_for = 'signal' and s.due_at > now()
  and i.state = 'unread' and i.kind = 'signal' and i.name = s.signal_name and i.created_at < now() - interval '30 seconds'
group by s.id, s.definition, s.step, i.name;
-- over: ids
select format('saga %s has ended, and the signal %s for it is %s', s.id, i.name, i.state) as violation
from engine.inbox i join engine.saga s on s.id = i.saga_id
where i.saga_id >= $1 and i.saga_id < $2 and s.id >= $1 and s.id < $2 and i.state in ('unread', 'unreadable') and i.kind = 'signal'
  and i.created_at < now() - interval '1 minute'
  and (s.ended_at is not null or s.status in ('completed', 'compensated'))
union all
select format('saga %s took the signal %s, and no step says so', i.saga_id, i.name)
from engine.inbox i
where i.saga_id >= $1 and i.saga_id < $2 and i.state = 'consumed' and i.kind = 'signal'
  and not exists (
    select from engine.history h
    where h.saga_id = i.saga_id and h.seq = i.history_seq and h.direction = 'action' and h.outcome = 'done')
union all
select format('entry %s of saga %s took %s signals', i.history_seq, i.saga_id, count(*))
from engine.inbox i
where i.saga_id >= $1 and i.saga_id < $2 and i.state = 'consumed' and i.kind = 'signal'
group by i.saga_id, i.history_seq having count(*) > 1
union all
select format('entry %s of saga %s says that %s received a signal, and none was taken', h.seq, s.id, h.step)
from (
    select g.hash, node ->> 'name' as step
    from engine.graph g cross join lateral jsonb_array_elements(g.graph -> 'steps') node
    where node ->> 'kind' = 'signal') w
join engine.saga s on s.graph_hash = w.hash
join engine.history h
    on h.saga_id = s.id and h.step = w.step and h.direction = 'action' and h.outcome = 'done' and h.output ? 'received'
where s.id >= $1 and s.id < $2 and not exists (
    select from engine.inbox i
    where i.saga_id = s.id and i.kind = 'signal' and i.state = 'consumed' and i.history_seq = h.seq);

-- name: 14 children and their parents agree
-- over: unfinished
select format('saga %s (%s) waits at %s for children, and all of them have ended', s.id, s.definition, s.step) as violation
from engine.saga s
where s.waits_for = 'children' and coalesce(s.due_at > now(), true) and s.direction = 'action' and not exists (
    select from engine.saga c
    where c.parent_id = s.id and c.parent_step = s.step
      and (c.ended_at is null or c.ended_at > now() - interval '30 seconds'))
union all
select format('saga %s (%s) undoes %s, and nothing is left of it to undo', s.id, s.definition, s.step)
from engine.saga s
where s.waits_for = 'children' and coalesce(s.due_at > now(), true) and s.direction = 'undo' and not exists (
    select from engine.saga c
    where c.parent_id = s.id and c.parent_step = s.step
      and (c.ended_at is null or c.status = 'completed' or c.ended_at > now() - interval '30 seconds'))
union all
select format('saga %s (%s) undoes %s, and its child %s was not told', s.id, s.definition, s.step, c.id)
from engine.saga s join engine.saga c on c.parent_id = s.id and c.parent_step = s.step
where s.waits_for = 'children' and coalesce(s.due_at > now(), true) and s.direction = 'undo'
  and s.waits_since < now() - interval '1 minute'
  and (c.status in ('running', 'completed') or c.status = 'dead' and c.ended_at is null and c.direction = 'action')
  and not exists (
    select from engine.inbox i
    where i.saga_id = c.id and i.kind = 'cancel' and i.key = 'parent' and i.state = 'unread');
-- over: ids
select format('saga %s is a child of saga %s, which does not exist', c.id, c.parent_id) as violation
from engine.saga c
where c.id >= $1 and c.id < $2 and c.parent_id is not null
  and not exists (select from engine.saga p where p.id = c.parent_id)
union all
select format('saga %s is %s, although its parent %s is %s', c.id,
              case when c.ended_at is null then 'unfinished' else c.status end, p.id, p.status)
from engine.saga c join engine.saga p on p.id = c.parent_id
where c.id >= $1 and c.id < $2
  and (p.status = 'compensated' and (c.status not in ('compensated', 'dead') or c.ended_at is null)
       or p.status = 'completed' and c.ended_at is null)
  and not exists (
    -- Behind the pivot nothing is undone, so that a parent which compensates never came to such a step.
    select from engine.graph g cross join lateral jsonb_array_elements(g.graph -> 'steps') node
    where p.status = 'compensated' and g.hash = p.graph_hash and node ->> 'name' = c.parent_step
      and node ->> 'placement' = 'after_pivot')
union all
select format('saga %s stands in another tree than its parent %s', c.id, p.id)
from engine.saga c join engine.saga p on p.id = c.parent_id
where c.id >= $1 and c.id < $2 and (c.root_id <> coalesce(p.root_id, p.id) or c.depth <> p.depth + 1)
union all
select format('saga %s is number %s of %s of its parent, and number %s was never started', c.id, c.parent_position,
              c.parent_step, c.parent_position - 1)
from engine.saga c
where c.id >= $1 and c.id < $2 and c.parent_position > 0 and c.parent_round = 0 and not exists (
    select from engine.saga b
    where b.parent_id = c.parent_id and b.parent_step = c.parent_step and b.parent_round = 0
      and b.parent_position = c.parent_position - 1);

-- name: 15 returns agree with their orders, their sagas and the stock
-- over: ids
select format('return %s is of order %s, which %s', r.return_id, r.order_id,
              case when o.order_id is null then 'does not exist' else 'is ' || o.status end) as violation
from shop.order_return r left join shop.orders o on o.order_id = r.order_id
where r.return_id >= $1 and r.return_id < $2
  and (o.order_id is null or o.status not in ('shipped', 'delivered', 'returned'))
union all
select format('return %s is %s, and no saga moves it', r.return_id, r.status)
from shop.order_return r
where r.return_id >= $1 and r.return_id < $2 and r.status in ('requested', 'approved', 'received') and not exists (
    select from engine.saga s
    where s.id = r.workflow_id
      and (s.status in ('running', 'compensating') or s.status = 'dead' and s.ended_at is null))
union all
select format('return %s is %s, and of its lines %s say what has arrived', r.return_id, r.status, l.arrived)
from shop.order_return r
cross join lateral (
    select count(*) as lines, count(l.received) as arrived from shop.return_line l where l.return_id = r.return_id) l
where r.return_id >= $1 and r.return_id < $2
  and (l.lines = 0 or l.arrived <> case when r.status in ('received', 'completed') then l.lines else 0 end)
union all
select format('return %s is %s at version %s, its timeline %s at %s with %s entries', r.return_id, r.status, r.version,
              last.status, last.version, last.entries)
from shop.order_return r
left join lateral (
    select t.status, t.version, count(*) over () as entries
    from shop.return_timeline t where t.return_id = r.return_id order by t.version desc limit 1
) last on true
where r.return_id >= $1 and r.return_id < $2
  and (r.status, r.version, r.version) is distinct from (last.status, last.version, last.entries);
-- over: ids
-- By the ids of the orders.
with lines as (
    select r.order_id, l.sku, sum(coalesce(l.received, l.quantity)) as taken,
           coalesce(sum(l.received) filter (where r.status = 'completed'), 0) as back
    from shop.order_return r join shop.return_line l on l.return_id = r.return_id
    where r.order_id >= $1 and r.order_id < $2 and r.status not in ('rejected', 'expired', 'cancelled')
    group by r.order_id, l.sku
), units as (
    select o.order_id, o.status, l.sku, l.quantity, coalesce(r.taken, 0) as taken, coalesce(r.back, 0) as back
    from shop.orders o
    cross join lateral (
        select i.sku, sum(i.quantity) as quantity from shop.order_line i where i.order_id = o.order_id group by i.sku) l
    left join lines r on r.order_id = o.order_id and r.sku = l.sku
    where o.order_id >= $1 and o.order_id < $2
      and (o.status = 'returned' or exists (select from shop.order_return r where r.order_id = o.order_id))
)
select format('order %s has %s of %s in its returns, and %s were ordered', u.order_id, u.taken, u.sku, u.quantity)
       as violation
from units u where u.taken > u.quantity
union all
select format('order %s has %s in its returns, which was not ordered', r.order_id, r.sku)
from lines r where not exists (
    select from shop.order_line i where i.order_id = r.order_id and i.sku = r.sku)
union all
select format('order %s is %s, and %s of its units are back', u.order_id, min(u.status), sum(u.back))
from units u group by u.order_id having bool_and(u.back >= u.quantity) <> (min(u.status) = 'returned');
-- over: skus
with moved as (
    select m.order_id, m.sku, sum(m.delta_on_hand) as units
    from shop.stock_movement m where m.sku > $1 and m.sku <= $2 and m.kind = 'return'
    group by m.order_id, m.sku
)
select format('of order %s %s of %s are in stock again, and by its returns %s', m.order_id, m.units, m.sku, l.units)
       as violation
from moved m
cross join lateral (
    select sum(l.restocked) as units
    from shop.order_return r join shop.return_line l on l.return_id = r.return_id and l.sku = m.sku
    where r.order_id = m.order_id and r.status = 'completed') l
where m.units is distinct from l.units;
-- over: all
select format('return %s put %s of %s back to stock, and the ledger does not say so', r.return_id, l.restocked, l.sku)
       as violation
from shop.order_return r join shop.return_line l on l.return_id = r.return_id
where r.status = 'completed' and l.restocked > 0 and not exists (
    select from shop.stock_movement m where m.sku = l.sku and m.kind = 'return' and m.order_id = r.order_id);
