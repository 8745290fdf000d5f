-- The products that the shop sells.
--
-- SKUs compare byte by byte (collate "C"): that is cheap, and it is Rust's order, in which stock is locked.

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
    'One row per product. Its stock is in a table of its own (shop.stock), because stock changes with every order and the product hardly ever.';
create index product_by_category on shop.product (category, product_id);
