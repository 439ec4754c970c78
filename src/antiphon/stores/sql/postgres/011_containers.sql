-- Containers of code: `runs` counts what was run in one, `busy_until_ms` is when who runs something there has ended.
-- `emptied`: it has expired, and its files were removed.
CREATE TABLE containers (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  name TEXT NOT NULL,
  minutes BIGINT NOT NULL,
  last_active_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  emptied BIGINT NOT NULL,
  memory_limit TEXT NOT NULL,
  runs BIGINT NOT NULL,
  busy_until_ms BIGINT NOT NULL
);
CREATE INDEX containers_by_owner ON containers (owner, position);
CREATE INDEX containers_expiring ON containers (expires_at);

-- `content` is the key of the file's bytes in the blob storage.
CREATE TABLE container_files (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  container TEXT NOT NULL,
  path TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  source TEXT NOT NULL,
  content TEXT NOT NULL,
  UNIQUE (owner, container, path)
);
CREATE INDEX container_files_by_container ON container_files (owner, container, position);
