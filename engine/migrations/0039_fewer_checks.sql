-- The constraints that it drops are checks.
--
-- PostgreSQL reads the text of every CHECK of a table anew for each statement that writes to it, and evaluates it for each row.
-- These repeat what the types of the engine's only writer say (docs/decisions/0044); a saga whose state does not
-- follow from its history is found by `sagaline doctor`.
alter table engine.saga
    drop constraint saga_attempt_check,
    drop constraint saga_lost_attempts_check,
    drop constraint saga_history_seq_check,
    drop constraint saga_epoch_check,
    drop constraint saga_direction_check,
    drop constraint saga_compensating_has_cause,
    drop constraint saga_leased_is_active;
alter table engine.history_run
    drop constraint history_seq_check,
    drop constraint history_round_check,
    drop constraint history_direction_check,
    drop constraint history_outcome_check;
