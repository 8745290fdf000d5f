-- How much of each product there is, and the ledger of its changes.

create table shop.stock (
    sku                 text collate "C" primary key references shop.product (sku),
    on_hand             bigint not null,
    reserved            bigint not null default 0,
    low_stock_threshold bigint not null,
    version             bigint not null default 1,
    updated_at          timestamptz not null default now(),
    constraint stock_never_negative check (on_hand >= 0),
    constraint stock_never_oversold check (reserved between 0 and on_hand),
    constraint stock_threshold_not_negative check (low_stock_threshold >= 0),
    constraint stock_version_positive check (version > 0)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table shop.stock is
    'The stock levels of each product. These are the hottest rows: they are narrow, have no index but the key, and their pages are mostly empty, so that an update stays on its page (HOT) and needs no new index entry. Lock rows in the order of sku.';
comment on column shop.stock.version is
    'Grows with every change; the product''s ETag.';

create table shop.stock_movement (
    movement_id    bigint generated always as identity primary key,
    delta_on_hand  bigint not null,
    delta_reserved bigint not null,
    order_id       uuid,
    at             timestamptz not null default now(),
    sku            text collate "C" not null,
    kind           text collate "C" not null,
    actor          text not null,
    reason         text,
    constraint stock_movement_kind check (case kind
        when 'initial' then delta_on_hand >= 0 and delta_reserved = 0 and order_id is null
        when 'set' then delta_reserved = 0 and order_id is null
        when 'adjust' then delta_reserved = 0 and order_id is null
        when 'reserve' then delta_on_hand = 0 and delta_reserved > 0 and order_id is not null
        when 'release' then delta_on_hand = 0 and delta_reserved < 0 and order_id is not null
        when 'ship' then delta_on_hand < 0 and delta_reserved = delta_on_hand and order_id is not null
        else false end)
);
comment on table shop.stock_movement is
    'The ledger: every change of a stock level, the first stock included; append only. shop.stock equals its sums (invariant 6). No foreign keys: they would cost a look-up for every row of the hot path, and the invariants find orphans.';
create index stock_movement_by_sku on shop.stock_movement (sku, movement_id);
comment on index shop.stock_movement_by_sku is
    'Reads the ledger of one product, newest first. Movements of one SKU are inserted under the lock on its stock, so their ids grow in the order of commits, and each lands at the right end of its SKU.';

create function shop.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'shop.% is append only', tg_table_name;
end
$$;
comment on function shop.refuse_change is 'Keeps ledgers append only.';
create trigger stock_movement_is_append_only before update or delete on shop.stock_movement
    for each statement execute function shop.refuse_change();
