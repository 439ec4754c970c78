-- Approval requests that were approved and acted upon, so that none is acted upon twice. `id` is the request's.
CREATE TABLE used_approvals (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  response_id TEXT NOT NULL,
  used_at BIGINT NOT NULL,
  PRIMARY KEY (owner, id)
);
