-- The server reads the text of every CHECK of a table anew for each statement that writes to it. These cost a commit of one
-- saga more than a tenth of its time (docs/decisions/0028). The engine writes the columns together, and the
-- invariants replay them; the checks of children come with children.
alter table engine.history_run
    drop constraint history_run_next_agree,
    drop constraint history_run_is_plain;
alter table engine.saga
    drop constraint saga_child_is_placed,
    drop constraint saga_depth_check,
    drop constraint saga_waits_or_is_leased,
    drop constraint saga_lease_has_owner;
