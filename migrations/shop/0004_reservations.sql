-- The stock that orders hold.

create table shop.reservation (
    order_id uuid not null,
    quantity bigint not null,
    sku      text collate "C" not null,
    state    text collate "C" not null default 'held',
    primary key (order_id, sku),
    constraint reservation_quantity_positive check (quantity > 0),
    constraint reservation_state check (state in ('held', 'released', 'consumed'))
) with (fillfactor = 50);
comment on table shop.reservation is
    'What an order holds of each SKU. Releasing and shipping change only rows that are still held, which makes both repeatable.';
