-- `version` grows with every change of what can be found. Of a store that is `gone`, only its removal is left to do.
-- `dimension` is 0 until it is known. `emptied` says that the chunks of an expired store are removed.
CREATE TABLE vector_stores (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  version INTEGER NOT NULL,
  index_name TEXT NOT NULL,
  embedding_model TEXT NOT NULL,
  dimension INTEGER NOT NULL,
  metric TEXT NOT NULL,
  last_active_at INTEGER NOT NULL,
  expires_days INTEGER,
  expires_at INTEGER,
  emptied INTEGER NOT NULL,
  gone INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX vector_stores_by_owner ON vector_stores (owner, position);
CREATE INDEX vector_stores_gone ON vector_stores (id) WHERE gone = 1;
CREATE INDEX vector_stores_expiring ON vector_stores (expires_at) WHERE expires_at IS NOT NULL AND emptied = 0;

-- `id` is the file's. `attempt` is the ingestion that counts, `trying` the one that may be under way. A file that is
-- `deleted` is one whose chunks have still to be removed. One that is not `listed` holds ready-made chunks.
CREATE TABLE vector_store_files (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  store TEXT NOT NULL,
  id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  listed INTEGER NOT NULL,
  status TEXT NOT NULL,
  attempt TEXT,
  trying TEXT,
  tries INTEGER NOT NULL,
  usage_bytes INTEGER NOT NULL,
  filename TEXT NOT NULL,
  attributes BLOB NOT NULL,
  strategy BLOB NOT NULL,
  error_code TEXT,
  error_message TEXT,
  UNIQUE (owner, store, id)
);
CREATE INDEX vector_store_files_in_order ON vector_store_files (owner, store, position);
CREATE INDEX vector_store_files_counted ON vector_store_files (owner, store, listed, status, usage_bytes);
CREATE INDEX vector_store_files_of ON vector_store_files (owner, id);
CREATE INDEX vector_store_files_open ON vector_store_files (store) WHERE status IN ('in_progress', 'deleted');

CREATE TABLE vector_file_batches (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  store TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  cancelled INTEGER NOT NULL
);
CREATE INDEX vector_file_batches_by_store ON vector_file_batches (owner, store);

CREATE TABLE vector_batch_files (
  owner TEXT NOT NULL,
  batch TEXT NOT NULL,
  file TEXT NOT NULL,
  PRIMARY KEY (owner, batch, file)
) WITHOUT ROWID;
