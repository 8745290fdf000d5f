-- Dead jobs end without leaving anything standing, and the archive is not kept for ever.

-- A deadline that passes has a dead saga unwind, too.
alter table engine.dead_job drop constraint dead_job_resolution_check;
alter table engine.dead_job add constraint dead_job_resolution_check
    check (resolution in ('retried', 'discarded', 'cancelled', 'deadline_passed'));

-- What died in an undo waits for a person, however long.
update engine.dead_job set expires_at = null where direction = 'undo' and resolution is null;
-- What somebody acted on is a record, which goes to the archive in its time.
update engine.dead_job set expires_at = resolved_at + interval '30 days'
where resolution is not null and expires_at is null;

comment on table engine.dead_job_archive is
    'Dead jobs whose time to live is over. An expired one was acted on by nobody: its saga was unwound where it still could be, and else stays dead, with an end.';

-- Those that are thrown away next.
create index dead_job_archive_age on engine.dead_job_archive (archived_at);
