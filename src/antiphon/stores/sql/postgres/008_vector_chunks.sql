-- A chunk of a file's attempt. `terms` are its words as numbers with counts, `words` the same for full-text search;
-- `vector` is little-endian float32, for an index beside pgvector's, whose column is added where the extension is.
CREATE TABLE vector_chunks (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  store TEXT NOT NULL,
  file TEXT NOT NULL,
  attempt TEXT NOT NULL,
  number BIGINT NOT NULL,
  id TEXT NOT NULL,
  piece BYTEA NOT NULL,
  metadata BYTEA NOT NULL,
  terms BYTEA NOT NULL,
  vector BYTEA,
  dimension BIGINT NOT NULL DEFAULT 0,
  words TSVECTOR,
  UNIQUE (owner, store, file, attempt, number)
);
CREATE INDEX vector_chunks_by_word ON vector_chunks USING gin (words);
