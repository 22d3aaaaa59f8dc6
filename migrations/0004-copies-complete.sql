-- Dedicated copies, checkpoints, groups, incremental backups, schedules, limits.
-- Specified in docs/format/metadata.md.
ALTER TABLE disks ADD COLUMN lineage TEXT;
ALTER TABLE disks ADD COLUMN quota_bytes INTEGER;
ALTER TABLE disks ADD COLUMN max_bytes_per_second INTEGER;

-- owed_*: the blocks of a dedicated copy that its source's pool still holds for it.
ALTER TABLE copies ADD COLUMN preserve TEXT;
ALTER TABLE copies ADD COLUMN on_preserve_error TEXT;
ALTER TABLE copies ADD COLUMN max_bytes_per_second INTEGER;
ALTER TABLE copies ADD COLUMN owed_pool TEXT;
ALTER TABLE copies ADD COLUMN owed_node INTEGER;
ALTER TABLE copies ADD COLUMN owed_height INTEGER;
ALTER TABLE copies ADD COLUMN owed_blocks INTEGER;
ALTER TABLE copies ADD COLUMN problem TEXT;
ALTER TABLE copies ADD COLUMN group_id TEXT;

-- What is left of a copy that was deleted after it was backed up: no blocks, only where in the
-- history of its disk it stood.
CREATE TABLE checkpoints (
  id TEXT NOT NULL PRIMARY KEY,
  disk_id TEXT NOT NULL,
  disk_name TEXT NOT NULL,
  generation INTEGER NOT NULL,
  capacity_bytes INTEGER NOT NULL,
  block_size_bytes INTEGER NOT NULL,
  lineage TEXT NOT NULL,
  frozen_at INTEGER NOT NULL
) STRICT;

-- Copies that were frozen at one instant. members: JSON.
CREATE TABLE groups (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  members TEXT NOT NULL,
  halt_microseconds INTEGER NOT NULL,
  labels TEXT NOT NULL,
  version INTEGER NOT NULL,
  frozen_at INTEGER NOT NULL
) STRICT;

ALTER TABLE backups ADD COLUMN base_copy_id TEXT;
ALTER TABLE backups ADD COLUMN base_generation INTEGER;
ALTER TABLE backups ADD COLUMN data_bytes INTEGER;
ALTER TABLE backups ADD COLUMN group_id TEXT;
ALTER TABLE backups ADD COLUMN group_name TEXT;
-- All backups of the group backup, JSON.
ALTER TABLE backups ADD COLUMN group_members TEXT;

-- settings: what a client asked for, JSON. progress: the runs so far, JSON.
CREATE TABLE schedules (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  settings TEXT NOT NULL,
  progress TEXT NOT NULL,
  labels TEXT NOT NULL,
  creation TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
