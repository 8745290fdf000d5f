-- Redis is filled again from far enough back, also after a series was begun in the middle of the log.

alter table shop.event_consumer
    add column previous_series bigint,
    add column previous_event_id bigint,
    add constraint event_consumer_previous check ((previous_series is null) = (previous_event_id is null));
comment on column shop.event_consumer.previous_event_id is
    'The last event that the target confirmed in previous_series, the one before this. A target that has not that entry any more has lost what came before this series, too.';
