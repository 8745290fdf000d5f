-- Messages to customers and administrators.

create table shop.notification (
    notification_id uuid primary key,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    status          text collate "C" not null default 'pending',
    recipient       text not null,
    subject         text not null,
    text            text not null,
    html            text,
    message_id      text,
    reply           text,
    constraint notification_status check (status in ('pending', 'sending', 'sent', 'failed', 'cancelled')),
    constraint notification_sent_has_message_id check (status <> 'sent' or message_id is not null)
) with (fillfactor = 45);
comment on table shop.notification is
    'One row per message. Its id is that of the deliver-notification saga that delivers it, whose history holds every attempt.';
comment on column shop.notification.reply is 'The mail server''s reply when it accepted the message.';
