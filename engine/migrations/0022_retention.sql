-- Sagas that have ended are deleted after a time, with all that is theirs.

create table engine.pruning (
    keep_ms bigint primary key check (keep_ms > 0),
    after_id uuid not null default '00000000-0000-0000-0000-000000000000',
    reached timestamptz,
    round_began_at timestamptz not null default now()
) with (fillfactor = 50);

comment on table engine.pruning is
    'How far the deletion of old sagas is: one row for each time that sagas are kept for. Who deletes holds the lock on the row.';
comment on column engine.pruning.after_id is
    'Sagas are looked at in the order of their ids, which is that of their starts; this is the last one of this round.';
comment on column engine.pruning.reached is
    'All sagas that were started before this time have been looked at once or more often.';
comment on column engine.pruning.round_began_at is
    'A new round, from the first saga on, begins when this is a day ago: it finds those that ended late.';

create table engine.pruned (
    definition text primary key,
    started_through timestamptz,
    keys_through timestamptz
) with (fillfactor = 50);

comment on table engine.pruned is
    'What was deleted of each definition because its time was over, so that nobody takes it for lost.';
comment on column engine.pruned.started_through is
    'Sagas that were started at this time or before may have been deleted, none that was started later.';
comment on column engine.pruned.keys_through is
    'Business keys that were used first at this time or before may have been forgotten, none that was used later.';

comment on column engine.business_key.kept_until is
    'Until when the key starts no other saga although its own was deleted; null while its saga is kept.';

-- Old rows are deleted as fast as new ones come, so vacuum must not wait for a fifth of a large table.
alter table engine.history_run set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
alter table engine.business_key set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
