-- The text of a notification is deleted after a time; that it was sent, when and to whom stays.

alter table shop.notification
    add column text_deleted_at timestamptz,
    add constraint notification_text_deleted_is_gone
        check (text_deleted_at is null or (text = '' and html is null)) not valid;
comment on column shop.notification.text_deleted_at is 'When the text was deleted because its time was over.';
