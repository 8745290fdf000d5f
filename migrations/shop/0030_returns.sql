-- Returns of shipped orders, their lines, and the history of their status.

create table shop.order_return (
    return_id     uuid primary key,
    order_id      uuid not null,
    workflow_id   uuid not null,
    version       bigint not null default 1,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    status        text collate "C" not null default 'requested',
    reason        text not null,
    status_reason text,
    constraint order_return_status check (status in
        ('requested', 'approved', 'received', 'completed', 'rejected', 'expired', 'cancelled'))
) with (fillfactor = 70);
comment on table shop.order_return is
    'What a customer sends back of an order: a row a parcel. Ids are UUIDv7, so that the key''s order is the order of creation. No foreign key, as in shop.order_line; an invariant finds orphans.';
comment on column shop.order_return.reason is 'Why it is sent back, as the request says.';
comment on column shop.order_return.workflow_id is 'The return-order saga.';
comment on column shop.order_return.version is 'Grows with every change of status; the ETag, and the key of the timeline.';
create index order_return_by_order on shop.order_return (order_id, return_id);
comment on index shop.order_return_by_order is 'Reads the returns of one order, newest first.';
create index order_return_by_status on shop.order_return (status, return_id);
comment on index shop.order_return_by_status is
    'Reads the returns in a status, newest first: those that wait for a decision. There are few returns, and each changes its status three times.';

create table shop.return_line (
    return_id uuid not null,
    quantity  bigint not null,
    received  bigint,
    restocked bigint,
    sku       text collate "C" not null,
    primary key (return_id, sku),
    constraint return_line_quantity_positive check (quantity > 0),
    constraint return_line_received check (received between 0 and quantity),
    constraint return_line_restocked check (restocked between 0 and received),
    constraint return_line_received_as_a_whole check ((received is null) = (restocked is null))
);
comment on table shop.return_line is 'The units of a return, by SKU.';
comment on column shop.return_line.quantity is 'How many are announced.';
comment on column shop.return_line.received is 'How many were in the parcel; null until it is here.';
comment on column shop.return_line.restocked is 'How many of those are fit for sale and go back to stock.';

create table shop.return_timeline (
    return_id uuid not null,
    version   bigint not null,
    at        timestamptz not null,
    status    text collate "C" not null,
    actor     text not null,
    reason    text,
    primary key (return_id, version)
);
comment on table shop.return_timeline is
    'Every status that a return had: when, by whom and why. The version is the return''s after that change.';
