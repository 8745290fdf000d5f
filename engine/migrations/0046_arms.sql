-- Choices: which arms a saga has taken. With its graph they say which steps it has passed.

alter table engine.saga add column arms text;

comment on column engine.saga.arms is
    'The arms that the saga took, a letter for each choice in the order in which it came to them: y (yes) or n (no); null if it has made no choice.';
