//! The enumerations of steps in the OpenAPI document.

use crate::http::documented_enum::documented_enum;

documented_enum!(StepDirection, "The side of a step: its action or its undo.", engine::Direction::ALL);
documented_enum!(
    StepOutcome,
    "What an entry of a history records: an attempt that is `started`, `done`, `failed` for good, or `lost` with its \
     process; one that failed and is repeated (`retry`), or only put off (`snoozed`); the last one (`exhausted`); a \
     workflow \
     that `opened` its first children, was `dead_lettered`, `cancelled`, `retried` or `discarded`, \
     or whose deadline passed \
     (`deadline_passed`); or something that a newer version recorded (`unknown`). More may be added.",
    engine::HistoryOutcome::ALL
);
documented_enum!(
    StepKind,
    "`transaction` (the database only, exactly once), `call` (an external service, \
         at least once), `sleep` (waits for a \
     time), `signal` (waits for a message, or for a time), `choice` (decides which steps follow), \
     `child`, `parallel` or `for_each` (starts one workflow, several side by side, or one for each item, \
     and waits for their \
     ends). More may be added.",
    engine::StepKind::ALL
);
documented_enum!(ChoiceArm, "An arm of a choice: `yes` if what it asks is so, else `no`.", engine::Arm::ALL);
documented_enum!(
    StepPlacement,
    "Where a step is relative to the pivot, the point of no return.",
    engine::Placement::ALL
);
documented_enum!(
    StepUndo,
    "`undone` (the step has an undo), `nothing_to_undo` or `forward_only` (it is the pivot or after it).",
    engine::UndoKind::ALL
);
documented_enum!(
    CancelOrigin,
    "What caused a cancel: it was `requested`, or the dead job was `discarded` or `expired`.",
    engine::CancelOrigin::ALL
);
