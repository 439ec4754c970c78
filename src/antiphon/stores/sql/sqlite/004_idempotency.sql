-- Requests under a client's key, being worked on or answered. `id` is a digest of the key, `request` one of the request
-- (not known while a body still arrives), `claim` names the one attempt that may write here, `answer` is encrypted.
CREATE TABLE idempotency (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  state TEXT NOT NULL,
  worker TEXT NOT NULL,
  claim TEXT NOT NULL,
  request TEXT,
  response_id TEXT,
  answer BLOB,
  PRIMARY KEY (owner, id)
);
CREATE INDEX idempotency_expiring ON idempotency (expires_at);
