-- Work that nobody waits for. A running job names its worker; a waiting one is due from `run_at_ms` on, lower ranks first.
CREATE TABLE jobs (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  owner TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  unique_key TEXT,
  rank INTEGER NOT NULL,
  run_at_ms INTEGER NOT NULL,
  status TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  worker TEXT,
  ended_at_ms INTEGER,
  error TEXT,
  payload BLOB NOT NULL
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, kind, unique_key) WHERE status IN ('waiting', 'running');
CREATE INDEX jobs_waiting ON jobs (kind, rank, position) WHERE status = 'waiting';
CREATE INDEX jobs_by_worker ON jobs (worker) WHERE status = 'running';
CREATE INDEX jobs_ended ON jobs (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- Who is uploading the bytes: when that worker is dead, they belong to nobody at once.
ALTER TABLE loose_contents ADD COLUMN worker TEXT;
CREATE INDEX loose_contents_by_worker ON loose_contents (worker);
