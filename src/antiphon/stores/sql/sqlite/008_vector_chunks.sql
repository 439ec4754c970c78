-- A chunk of a file's attempt. `terms` are its words as numbers with counts, `vector` little-endian float32.
-- Numbers of rows are not used again; what is long stands last, since what is read most is before it.
CREATE TABLE vector_chunks (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  store TEXT NOT NULL,
  file TEXT NOT NULL,
  attempt TEXT NOT NULL,
  number INTEGER NOT NULL,
  id TEXT NOT NULL,
  piece BLOB NOT NULL,
  metadata BLOB NOT NULL,
  terms BLOB NOT NULL,
  vector BLOB,
  UNIQUE (owner, store, file, attempt, number)
);
