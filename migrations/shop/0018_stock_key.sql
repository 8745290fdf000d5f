-- Each version of a stock row is a new entry of the index, so a key on the SKU alone would have all of them under one
-- key, and the unique check of every update would read them all. That a SKU has one row follows from shop.product: the
-- only insert is that of a new product, whose SKU is unique, and invariant 6 finds any other.
alter table shop.stock
    add constraint stock_key primary key using index stock_by_version,
    drop constraint stock_pkey,
    reset (fillfactor);
comment on table shop.stock is
    'The stock levels of each product. These are the hottest rows. Read and lock them by their newest version (`order by version desc limit 1`), in the order of sku; every change raises the version.';
comment on constraint stock_key on shop.stock is
    'The index from which the newest version is read.';
