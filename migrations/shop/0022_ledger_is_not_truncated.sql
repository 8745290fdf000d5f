-- The ledger is append only, also for `truncate`, which fires none of the triggers of `delete`.

create trigger stock_movement_is_not_truncated before truncate on shop.stock_movement
    for each statement execute function shop.refuse_change();
