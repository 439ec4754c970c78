-- `open` until nothing is left to do: the batch has ended, and its lines are gone.
CREATE TABLE batches (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  open BIGINT NOT NULL,
  status TEXT NOT NULL,
  total BIGINT NOT NULL,
  completed BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cached_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX batches_by_owner ON batches (owner, position);
CREATE INDEX batches_open ON batches (position) WHERE open = 1;

-- A line of the input by its number; `body` is its line of the output, as soon as it has one.
CREATE TABLE batch_lines (
  owner TEXT NOT NULL,
  batch TEXT NOT NULL,
  seq BIGINT NOT NULL,
  custom_id TEXT NOT NULL,
  failed BIGINT NOT NULL,
  body BYTEA,
  PRIMARY KEY (owner, batch, seq)
);
