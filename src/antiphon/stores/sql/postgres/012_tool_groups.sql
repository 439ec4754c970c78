-- MCP servers that clients have registered as tool groups. `args` is JSON; headers and tokens are never kept.
CREATE TABLE tool_groups (
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  uri TEXT NOT NULL,
  args TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (owner, id)
);
