-- `content` is the key of the file's bytes in the blob storage.
CREATE TABLE files (
  position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  purpose TEXT NOT NULL,
  filename TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  content TEXT NOT NULL
);
CREATE INDEX files_by_owner ON files (owner, position);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

-- Bytes that belong to no file: of an upload under way, or of a file whose deletion has not come to its end.
CREATE TABLE loose_contents (
  content TEXT NOT NULL PRIMARY KEY,
  owner TEXT NOT NULL,
  since_ms BIGINT NOT NULL
);
CREATE INDEX loose_contents_by_age ON loose_contents (since_ms);
