-- no-transaction
-- Stock is found by its newest version: while a snapshot keeps dead versions from being removed, the index leads to the
-- living one first, however many dead ones there are. It replaces the key on the SKU alone.
create unique index concurrently if not exists stock_by_version on shop.stock (sku, version);
