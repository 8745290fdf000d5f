-- Orders of a time are found without reading those before and after it.

create index orders_by_creation on shop.orders (created_at);
comment on index shop.orders_by_creation is
    'Lists of a range of times. A creation never changes, so that updates of orders stay on their pages (HOT); every entry lands at the right end.';
