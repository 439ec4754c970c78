-- Files that come in parts. `bytes` is what the client announced, `parts` and `part_bytes` what has come so far;
-- `expires_s` is how long the file shall be kept, once it is one.
CREATE TABLE uploads (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  purpose TEXT NOT NULL,
  filename TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  expires_s INTEGER,
  status TEXT NOT NULL,
  file_id TEXT,
  parts INTEGER NOT NULL,
  part_bytes INTEGER NOT NULL
);
CREATE INDEX uploads_expiring ON uploads (expires_at);

-- `content` is the key of the part's bytes in the blob storage.
CREATE TABLE upload_parts (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  upload_id TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  content TEXT NOT NULL
);
CREATE INDEX upload_parts_by_upload ON upload_parts (owner, upload_id, position);
