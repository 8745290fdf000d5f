-- An order of which every unit was returned is `returned`, and what is fit for sale is a movement of its stock.
-- The constraints that it drops are checks.
--
-- Rows of before met the narrower checks, so nothing has to be read again for the wider ones.
alter table shop.orders
    drop constraint orders_status,
    add constraint orders_status check (status in
        ('pending', 'confirmed', 'processing', 'shipped', 'delivered', 'rejected', 'cancelling', 'cancelled',
         'returned')) not valid;
alter table shop.stock_movement
    drop constraint stock_movement_kind,
    add constraint stock_movement_kind check (case kind
        when 'initial' then delta_on_hand >= 0 and delta_reserved = 0 and order_id is null
        when 'set' then delta_reserved = 0 and order_id is null
        when 'adjust' then delta_reserved = 0 and order_id is null
        when 'reserve' then delta_on_hand = 0 and delta_reserved > 0 and order_id is not null
        when 'release' then delta_on_hand = 0 and delta_reserved < 0 and order_id is not null
        when 'ship' then delta_on_hand < 0 and delta_reserved = delta_on_hand and order_id is not null
        when 'return' then delta_on_hand > 0 and delta_reserved = 0 and order_id is not null
        else false end) not valid;
