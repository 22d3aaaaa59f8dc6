-- Pages: everything that grows with data. id = pool number * 2^40 + page number.
-- Specified in docs/format/metadata.md.
CREATE TABLE nodes (
  id INTEGER PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE node_counts (
  id INTEGER PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE block_counts (
  id INTEGER PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE bitmaps (
  id INTEGER PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

-- Facts of the store itself: uuid, epoch, clean, and what the engine adds (generation …).
CREATE TABLE store (
  key TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
