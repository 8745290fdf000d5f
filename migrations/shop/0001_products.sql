-- What the shop sells, how much of it there is, and how that came about.
--
-- SKUs compare byte by byte (collate "C"): cheap, and the same order as in Rust, in which stock is locked.

create table shop.product (
    product_id  uuid primary key,
    price       bigint not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    sku         text collate "C" not null,
    name        text not null,
    description text not null,
    category    text not null,
    currency    text collate "C" not null,
    constraint product_sku_unique unique (sku),
    constraint product_sku_length check (char_length(sku) between 1 and 64),
    constraint product_name_length check (char_length(name) between 1 and 200),
    constraint product_category_length check (char_length(category) between 1 and 64),
    constraint product_description_length check (char_length(description) <= 4000),
    constraint product_price_not_negative check (price >= 0),
    constraint product_currency_is_iso_4217 check (currency ~ '^[A-Z]{3}$')
);
comment on table shop.product is
    'One row a product. Its stock stands apart (shop.stock), because that changes with every order and this hardly ever.';
create index product_by_category on shop.product (category, product_id);

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
    'The levels of each product. The hottest rows there are: narrow, no index but the key, and pages mostly empty, so that an update stays on its page (HOT) and needs no new index entry. Lock rows in the order of sku.';
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
    'The ledger: every change of a level, append only, the first stock included. shop.stock equals its sums (invariant 6). No foreign keys: they would cost a look-up for every row of the hot path, and the invariants find orphans.';

create function shop.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'shop.% is append only', tg_table_name;
end
$$;
comment on function shop.refuse_change is 'Keeps ledgers append only.';
create trigger stock_movement_is_append_only before update or delete on shop.stock_movement
    for each statement execute function shop.refuse_change();
