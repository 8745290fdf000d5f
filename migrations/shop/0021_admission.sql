-- As engine.admission, for the schema `shop`.

create table shop.admission (
    singleton boolean primary key default true check (singleton),
    oldest_migration bigint not null
);
comment on table shop.admission is
    'Which processes may use the schema: those that know the migration with this number, or a later one.';
insert into shop.admission (oldest_migration) values (0);
