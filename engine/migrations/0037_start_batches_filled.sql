-- The sagas that were started before there were batches. Processes go on meanwhile: none of these rows is listed by anybody
-- else. One that is deleted meanwhile leaves its id, which leads nowhere.

set local statement_timeout = 0;

insert into engine.start_batch (definition, started_at, saga_ids)
select definition, created_at, array_agg(id order by id) from engine.saga
where in_start_batch is null group by definition, created_at;
