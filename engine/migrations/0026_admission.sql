-- A migration after which the version before can't work raises the number, in the same transaction:
-- `update engine.admission set oldest_migration = …`.

create table engine.admission (
    singleton boolean primary key default true check (singleton),
    oldest_migration bigint not null
);
comment on table engine.admission is
    'Which processes may use the schema: those that know the migration with this number, or a later one.';
insert into engine.admission (oldest_migration) values (0);
