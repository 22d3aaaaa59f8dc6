-- Long work and remembered answers. Specified in docs/format/metadata.md.
CREATE TABLE jobs (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  subject TEXT NOT NULL,
  parameters TEXT NOT NULL,
  progress TEXT NOT NULL,
  checkpoint TEXT NOT NULL,
  result TEXT,
  problem TEXT,
  log TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  ended_at INTEGER,
  disk TEXT,
  target TEXT,
  labels TEXT NOT NULL
) STRICT;

CREATE INDEX jobs_by_time ON jobs (created_at, id);
CREATE INDEX jobs_by_state ON jobs (state, created_at, id);
CREATE INDEX jobs_by_kind ON jobs (kind, created_at, id);
CREATE INDEX jobs_by_disk ON jobs (disk, created_at, id) WHERE disk IS NOT NULL;
CREATE INDEX jobs_by_target ON jobs (target, created_at, id) WHERE target IS NOT NULL;
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE idempotency (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  request_digest TEXT NOT NULL,
  status INTEGER NOT NULL,
  headers TEXT NOT NULL,
  body BLOB,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT;

CREATE INDEX idempotency_by_time ON idempotency (created_at);
