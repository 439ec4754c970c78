-- Containers of code: `runs` counts what was run in one, `busy_until_ms` is when who runs something there has ended.
-- `emptied`: it has expired, and its files were removed.
CREATE TABLE containers (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  name TEXT NOT NULL,
  minutes INTEGER NOT NULL,
  last_active_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  emptied INTEGER NOT NULL,
  memory_limit TEXT NOT NULL,
  runs INTEGER NOT NULL,
  busy_until_ms INTEGER NOT NULL
);
CREATE INDEX containers_by_owner ON containers (owner, position);
CREATE INDEX containers_expiring ON containers (expires_at);

-- `content` is the key of the file's bytes in the blob storage.
CREATE TABLE container_files (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  container TEXT NOT NULL,
  path TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  source TEXT NOT NULL,
  content TEXT NOT NULL,
  UNIQUE (owner, container, path)
);
CREATE INDEX container_files_by_container ON container_files (owner, container, position);
