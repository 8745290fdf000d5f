-- A product's ledger can be read page by page.

create index stock_movement_by_sku on shop.stock_movement (sku, movement_id);
comment on index shop.stock_movement_by_sku is
    'Reads one product''s ledger newest first. Movements of one SKU are entered under the lock on its stock, so their ids grow in the order of commits, and each lands at the right end of its SKU.';
