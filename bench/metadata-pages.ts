/**
 * Which SQLite page size suits 4 KiB blobs: one JSON line per page size, group size and workload.
 *
 * Raw SQL on purpose: it compares layouts that src/meta does not have.
 * Run: node bench/metadata-pages.ts [directory].
 * Results and the decision: docs/adr/0004-metadata-pages.md.
 */
import Database from 'better-sqlite3';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NODE_BYTES = 4096;
const LOADED_NODES = 40_000;
const POOL_BASE = 3 * 2 ** 40;
const UPSERT =
  'INSERT INTO nodes (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data';

interface Round {
  readonly wallMs: number;
  readonly walBytes: number;
}

function percentile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

function open(path: string, pageSize: number): Database.Database {
  const db = new Database(path);
  db.pragma(`page_size = ${pageSize}`);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('wal_autocheckpoint = 0');
  db.pragma('cache_size = -8192');
  db.exec('CREATE TABLE nodes (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT');
  return db;
}

/** Commits `groupSize` nodes at `pick()`; the checkpoint between rounds is timed apart. */
function commitGroup(db: Database.Database, path: string, ids: readonly number[]): Round {
  const upsert = db.prepare(UPSERT);
  const bytes = randomBytes(NODE_BYTES * ids.length);
  const begin = performance.now();
  db.exec('BEGIN IMMEDIATE');
  ids.forEach((id, index) => {
    upsert.run(POOL_BASE + id, bytes.subarray(index * NODE_BYTES, (index + 1) * NODE_BYTES));
  });
  db.exec('COMMIT');
  return { wallMs: performance.now() - begin, walBytes: statSync(`${path}-wal`).size };
}

function measure(db: Database.Database, path: string, groupSize: number, grow: boolean) {
  const rounds: Round[] = [];
  const checkpointMs: number[] = [];
  let next = Number(db.prepare('SELECT max(id) FROM nodes').pluck().get()) - POOL_BASE + 1;
  for (let round = 0; round < 30; round++) {
    const ids = Array.from({ length: groupSize }, () =>
      grow ? next++ : Math.floor(Math.random() * LOADED_NODES),
    );
    rounds.push(commitGroup(db, path, ids));
    const begin = performance.now();
    db.pragma('wal_checkpoint(RESTART)');
    checkpointMs.push(performance.now() - begin);
  }
  const wall = rounds.map((round) => round.wallMs).sort((a, b) => a - b);
  return {
    commitP50Ms: percentile(wall, 0.5),
    commitP95Ms: percentile(wall, 0.95),
    checkpointP50Ms: percentile(
      checkpointMs.sort((a, b) => a - b),
      0.5,
    ),
    walBytesPerNode: Math.round((rounds.at(-1)?.walBytes ?? 0) / groupSize),
  };
}

function readMicroseconds(db: Database.Database): number {
  const select = db.prepare('SELECT data FROM nodes WHERE id = ?').pluck();
  const begin = performance.now();
  for (let read = 0; read < 5000; read++) {
    select.get(POOL_BASE + Math.floor(Math.random() * LOADED_NODES));
  }
  return (performance.now() - begin) / 5;
}

function report(figure: object): void {
  const rounded = Object.entries(figure).map(([key, value]: [string, unknown]) => [
    key,
    typeof value === 'number' ? Math.round(value * 100) / 100 : value,
  ]);
  console.log(JSON.stringify(Object.fromEntries(rounded)));
}

const parent = process.argv[2] ?? tmpdir();
for (const pageSize of [4096, 8192, 16384, 32768]) {
  const directory = mkdtempSync(join(parent, 'metadata-pages-'));
  const path = join(directory, 'meta.db');
  const db = open(path, pageSize);
  for (let id = 0; id < LOADED_NODES; id += 2000) {
    commitGroup(
      db,
      path,
      Array.from({ length: 2000 }, (_, index) => id + index),
    );
    db.pragma('wal_checkpoint(RESTART)');
  }
  const fileBytesPerNode = Math.round(statSync(path).size / LOADED_NODES);
  report({ pageSize, fileBytesPerNode, readUs: readMicroseconds(db) });
  for (const groupSize of [1, 16, 256, 2048]) {
    for (const grow of [false, true]) {
      const workload = grow ? 'append' : 'update';
      report({ pageSize, groupSize, workload, ...measure(db, path, groupSize, grow) });
    }
  }
  db.close();
  rmSync(directory, { recursive: true });
}
