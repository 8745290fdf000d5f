-- Orders, their lines, and the history of their status.

create table shop.orders (
    order_id       uuid primary key,
    customer_id    uuid not null,
    workflow_id    uuid not null,
    total          bigint not null,
    version        bigint not null default 1,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    currency       text collate "C" not null,
    status         text collate "C" not null default 'pending',
    customer_email text not null,
    status_reason  text,
    constraint orders_status check (status in
        ('pending', 'confirmed', 'processing', 'shipped', 'delivered', 'rejected', 'cancelling', 'cancelled')),
    constraint orders_total_not_negative check (total >= 0),
    constraint orders_currency_is_iso_4217 check (currency ~ '^[A-Z]{3}$'),
    constraint orders_version_positive check (version > 0)
) with (fillfactor = 45);
comment on table shop.orders is
    'One row per order; ids are UUIDv7, so that the key''s order is the order of creation. Not indexed by status: every order changes it two to five times, and an index on it would make none of these updates HOT. The pages are filled by half, because a whole batch of orders is confirmed right after it was stored.';
comment on column shop.orders.version is 'Grows with every change of status; the ETag, and the key of the timeline.';
comment on column shop.orders.workflow_id is 'The place-order saga.';
create index orders_by_customer on shop.orders (customer_id, order_id);
comment on index shop.orders_by_customer is 'Reads the orders of one customer, newest first.';
create index orders_by_creation on shop.orders (created_at);
comment on index shop.orders_by_creation is
    'Reads the orders of a range of times. The time of creation never changes, so updates of orders stay on their pages (HOT); every entry lands at the right end.';

create table shop.order_line (
    order_id   uuid not null,
    quantity   bigint not null,
    unit_price bigint not null,
    line_no    smallint not null,
    sku        text collate "C" not null,
    name       text not null,
    primary key (order_id, line_no),
    constraint order_line_quantity check (quantity between 1 and 1000000),
    constraint order_line_price_not_negative check (unit_price >= 0)
);
comment on table shop.order_line is
    'What was ordered, with the name and price of that time. Written once, with its order; no foreign key, as in shop.stock_movement.';

create table shop.order_timeline (
    order_id uuid not null,
    version  bigint not null,
    at       timestamptz not null default now(),
    status   text collate "C" not null,
    actor    text not null,
    reason   text,
    primary key (order_id, version)
);
comment on table shop.order_timeline is
    'Every status that an order had: when, by whom and why. The version is the order''s after that change, so that no change can be recorded twice.';
