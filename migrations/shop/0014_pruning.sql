-- How far the deletion of old rows is, where it goes through a table in the order of its ids.

create table shop.pruning (
    rows     text collate "C" primary key,
    after_id uuid not null default '00000000-0000-0000-0000-000000000000',
    reached  timestamptz,
    through  timestamptz
) with (fillfactor = 10);
comment on table shop.pruning is 'One row for each kind of rows that is gone through; who deletes locks it.';
comment on column shop.pruning.after_id is 'The last id that was looked at.';
comment on column shop.pruning.reached is
    'Up to which time the last round came that went through all reservations; the next begins an hour later.';
comment on column shop.pruning.through is
    'Reservations of orders that last changed at this time or before may have been deleted, none of later ones.';
insert into shop.pruning (rows) values ('notification_texts'), ('reservations');

create function shop.first_id_at(at timestamptz) returns uuid language sql immutable parallel safe return
    rpad(lpad(to_hex(greatest(0, floor(extract(epoch from at) * 1000))::bigint), 12, '0'), 32, '0')::uuid;
comment on function shop.first_id_at is
    'The lowest UUID of version 7 of a time: its first 48 bits are milliseconds since 1970.';
