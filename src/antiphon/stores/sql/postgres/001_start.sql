-- Every table has an owner; positions give the order, whatever the clock says.
-- A statement ends with a semicolon at the end of its line.

CREATE TABLE responses (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  status TEXT NOT NULL,
  model TEXT NOT NULL,
  previous_response_id TEXT,
  conversation_id TEXT,
  body BYTEA NOT NULL,
  journal BYTEA
);
CREATE INDEX responses_by_owner ON responses (owner, position);
CREATE INDEX responses_unfinished ON responses (position) WHERE status IN ('queued', 'in_progress');

CREATE TABLE conversations (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  metadata BYTEA NOT NULL,
  next_seq BIGINT NOT NULL,
  turn TEXT
);

-- `container` is a response or a conversation. Of a response, input stands before 0 and output from 0 on.
CREATE TABLE items (
  owner TEXT NOT NULL,
  container TEXT NOT NULL,
  seq BIGINT NOT NULL,
  id TEXT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (owner, container, seq)
);
CREATE UNIQUE INDEX items_by_id ON items (owner, id, container);

CREATE TABLE completions (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  model TEXT NOT NULL,
  metadata TEXT NOT NULL,
  body BYTEA NOT NULL
);
CREATE INDEX completions_by_owner ON completions (owner, position);

CREATE TABLE completion_messages (
  owner TEXT NOT NULL,
  container TEXT NOT NULL,
  seq BIGINT NOT NULL,
  id TEXT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (owner, container, seq)
);
