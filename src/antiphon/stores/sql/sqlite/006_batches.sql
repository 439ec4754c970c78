-- `open` until nothing is left to do: the batch has ended, and its lines are gone.
CREATE TABLE batches (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  open INTEGER NOT NULL,
  status TEXT NOT NULL,
  total INTEGER NOT NULL,
  completed INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX batches_by_owner ON batches (owner, position);
CREATE INDEX batches_open ON batches (position) WHERE open = 1;

-- A line of the input by its number; `body` is its line of the output, as soon as it has one.
CREATE TABLE batch_lines (
  owner TEXT NOT NULL,
  batch TEXT NOT NULL,
  seq INTEGER NOT NULL,
  custom_id TEXT NOT NULL,
  failed INTEGER NOT NULL,
  body BLOB,
  PRIMARY KEY (owner, batch, seq)
) WITHOUT ROWID;
