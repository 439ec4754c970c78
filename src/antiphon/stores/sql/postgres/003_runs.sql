-- Processes that serve this database, each alive until that moment unless it says so again.
CREATE TABLE workers (
  id TEXT NOT NULL PRIMARY KEY,
  alive_until_ms BIGINT NOT NULL
);

-- Runs that have not ended. One without a worker waits for one. `body` is what a worker needs to go on with it;
-- `watched` says that somebody follows its events, `cancelled` that somebody wants it to end.
CREATE TABLE runs (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  host TEXT NOT NULL,
  worker TEXT,
  attempts BIGINT NOT NULL,
  watched BIGINT NOT NULL,
  cancelled BIGINT NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX runs_by_worker ON runs (worker, position);

-- What the journals of unfinished runs have so far, in the order of its arrival. A response that has ended has all of
-- its journal in its own row, and the parts are removed soon after.
CREATE TABLE journal_parts (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  container TEXT NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX journal_parts_by_container ON journal_parts (container, position);

-- Whose turn it is: with `turn`, the process that a turn runs on which leaves no run behind.
ALTER TABLE conversations ADD COLUMN turn_worker TEXT;
CREATE INDEX conversations_taken ON conversations (turn_worker) WHERE turn_worker IS NOT NULL;
