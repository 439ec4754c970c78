-- Processes that serve this database, each alive until that moment unless it says so again.
CREATE TABLE workers (
  id TEXT NOT NULL PRIMARY KEY,
  alive_until_ms INTEGER NOT NULL
);

-- Runs that have not ended. One without a worker waits for one. `body` is what a worker needs to go on with it;
-- `watched` says that somebody follows its events, `cancelled` that somebody wants it to end.
CREATE TABLE runs (
  position INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  host TEXT NOT NULL,
  worker TEXT,
  attempts INTEGER NOT NULL,
  watched INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX runs_by_worker ON runs (worker, position);

-- What the journals of unfinished runs have so far, in the order of its arrival: whatever many runs say at one time
-- stands on the same page. It has no index, since it is read from a position on, and is short: a response that has ended
-- has all of its journal in its own row, and the parts are removed soon after.
CREATE TABLE journal_parts (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  container TEXT NOT NULL,
  body BLOB NOT NULL
);

-- Whose turn it is: with `turn`, the process that a turn runs on which leaves no run behind.
ALTER TABLE conversations ADD COLUMN turn_worker TEXT;
CREATE INDEX conversations_taken ON conversations (turn_worker) WHERE turn_worker IS NOT NULL;
