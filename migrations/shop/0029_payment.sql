-- An order may wait for its payment (PAYMENT_WINDOW).
alter table shop.orders add column payment_due_at timestamptz;
comment on column shop.orders.payment_due_at is
    'Until when the order waits for its payment, set when it is accepted; null if it does not wait. It stays when the order is paid.';
