-- Pools, disks, copies, targets, backups. Times are milliseconds since 1970, ids are UUIDv7,
-- labels, settings and creation hold JSON. Specified in docs/format/metadata.md.
CREATE TABLE pools (
  id TEXT NOT NULL PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  name TEXT NOT NULL,
  block_size_bytes INTEGER NOT NULL,
  low_water_percent INTEGER NOT NULL,
  critical_percent INTEGER NOT NULL,
  preallocate INTEGER NOT NULL,
  oldest_epoch INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  creation TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE pool_files (
  pool TEXT NOT NULL,
  file INTEGER NOT NULL,
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  kind TEXT NOT NULL,
  PRIMARY KEY (pool, file)
) STRICT;

CREATE TABLE pool_extents (
  pool TEXT NOT NULL,
  extent INTEGER NOT NULL,
  first_block INTEGER NOT NULL,
  blocks INTEGER NOT NULL,
  file INTEGER NOT NULL,
  file_block INTEGER NOT NULL,
  high_water INTEGER NOT NULL,
  PRIMARY KEY (pool, extent)
) STRICT;

CREATE TABLE disks (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  pool TEXT NOT NULL,
  capacity_bytes INTEGER NOT NULL,
  labels TEXT NOT NULL,
  detect_zeroes INTEGER NOT NULL,
  reserve_bytes INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  root_node INTEGER NOT NULL,
  root_height INTEGER NOT NULL,
  mapped_blocks INTEGER NOT NULL,
  state TEXT NOT NULL,
  job TEXT,
  origin TEXT,
  creation TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE copies (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  disk_id TEXT NOT NULL,
  disk_name TEXT NOT NULL,
  pool TEXT NOT NULL,
  layout TEXT NOT NULL,
  placement TEXT NOT NULL,
  generation INTEGER NOT NULL,
  block_size_bytes INTEGER NOT NULL,
  source_capacity_bytes INTEGER NOT NULL,
  root_node INTEGER NOT NULL,
  root_height INTEGER NOT NULL,
  mapped_blocks INTEGER NOT NULL,
  halt_microseconds INTEGER NOT NULL,
  labels TEXT NOT NULL,
  state TEXT NOT NULL,
  lineage TEXT,
  version INTEGER NOT NULL,
  frozen_at INTEGER NOT NULL
) STRICT;

-- Roots of deleted disks and copies whose nodes and blocks are still to be reclaimed.
CREATE TABLE dead_roots (
  pool TEXT NOT NULL,
  node INTEGER NOT NULL,
  height INTEGER NOT NULL,
  count INTEGER NOT NULL,
  mapped_blocks INTEGER NOT NULL,
  PRIMARY KEY (pool, node)
) STRICT;

-- Block checksums of a copy, one row a segment, made when the copy is first read for an image.
CREATE TABLE checksums (
  copy TEXT NOT NULL,
  segment INTEGER NOT NULL,
  crcs BLOB NOT NULL,
  PRIMARY KEY (copy, segment)
) STRICT;

CREATE TABLE targets (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  settings TEXT NOT NULL,
  labels TEXT NOT NULL,
  creation TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE backups (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  target TEXT NOT NULL,
  medium_name TEXT NOT NULL,
  generation INTEGER NOT NULL,
  frozen_at INTEGER NOT NULL,
  image_id TEXT NOT NULL,
  copy_id TEXT NOT NULL,
  copy_name TEXT NOT NULL,
  disk_id TEXT NOT NULL,
  disk_name TEXT NOT NULL,
  level TEXT NOT NULL,
  state TEXT NOT NULL,
  medium_bytes INTEGER NOT NULL,
  used_bytes INTEGER NOT NULL,
  source_capacity_bytes INTEGER NOT NULL,
  block_size_bytes INTEGER NOT NULL,
  labels TEXT NOT NULL,
  job TEXT,
  verified_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX backups_by_time ON backups (created_at, id);
CREATE INDEX backups_by_target ON backups (target, created_at, id);
CREATE INDEX backups_by_disk ON backups (disk_id, created_at, id);
CREATE INDEX backups_by_copy ON backups (copy_id, created_at, id);
