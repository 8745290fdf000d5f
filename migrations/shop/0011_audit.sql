-- What people changed through the API and the command line, append only.

create table shop.audit (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default now(),
    actor        text not null,
    key_id       text collate "C",
    address      inet,
    action       text collate "C" not null,
    subject_kind text collate "C" not null,
    subject_id   text not null,
    reason       text,
    before       json,
    after        json,
    trace_id     text collate "C",
    constraint audit_action check (action ~ '^[a-z-]+\.[a-z-]+$'),
    constraint audit_subject_kind check (subject_kind ~ '^[a-z-]+$')
);
comment on table shop.audit is
    'What people changed: who, from where, what, why, and the state before and after; append only, written in the commit of the change. What they did to sagas is in engine.audit.';
create index audit_by_time on shop.audit (at, id);
create index audit_by_subject on shop.audit (subject_id, at, id);
create trigger audit_is_append_only before update or delete on shop.audit
    for each statement execute function shop.refuse_change();
