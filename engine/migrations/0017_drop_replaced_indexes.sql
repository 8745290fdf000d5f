-- Replaced by the indexes saga_waiting and saga_leased, and by the table engine.business_key.
drop index if exists engine.saga_due, engine.saga_business_key;
