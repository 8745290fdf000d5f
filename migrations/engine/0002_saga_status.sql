-- Lists of sagas by a status that few of them have. The statuses that most have are found fast without an index.

create index saga_status on engine.saga (status, id) where status in ('compensating', 'compensated', 'dead');
