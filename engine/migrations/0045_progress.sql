-- Which call has reported a progress, and under which claim. No version before this one has written to the table.

alter table engine.progress
    add column direction text not null check (direction in ('action', 'undo')),
    add column attempt integer not null check (attempt > 0),
    add column epoch bigint not null,
    add constraint progress_note_check check (octet_length(note) <= 200);

comment on table engine.progress is
    'How far the call that a saga makes has come, as it reported last. It stays when the call is over, and is shown while the saga stands at that step and direction. It has no foreign key, whose check would lock the saga''s row; it is deleted with its saga.';
comment on column engine.progress.done is 'How much is done, in a unit that the step chooses.';
comment on column engine.progress.total is 'How much there is to do; null if the step does not know.';
comment on column engine.progress.note is 'A few words of the step, for people.';
comment on column engine.progress.attempt is 'The attempt that reported it.';
comment on column engine.progress.epoch is
    'The claim under which it was reported. A process that has lost its claim does not replace what a later one reported.';
comment on column engine.progress.updated_at is 'When the step reported it.';
