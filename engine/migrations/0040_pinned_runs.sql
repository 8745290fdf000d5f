-- From here on a saga belongs to the graph with which it was started: a process works on the sagas of the graphs that it
-- knows, by their hashes. A process of an older version finds sagas by the names of their steps, and would run them under
-- whatever graph it has (docs/decisions/0046), so it is not admitted any more.
update engine.admission set oldest_migration = 40;

comment on column engine.saga.graph_hash is
    'The graph to which the saga belongs, from its start to its end: only processes that know it work on it.';
comment on column engine.process.hashes is 'The graphs that the process knows.';
