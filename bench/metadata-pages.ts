/**
 * Which SQLite page size suits 4 KiB blobs: one JSON line per workload, group size and page size.
 *
 * Raw SQL on purpose: it compares layouts that src/meta does not have. The databases take turns
 * within each round, since absolute figures on a shared machine swing.
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
const ROUNDS = 21;
const PAGE_SIZES = [4096, 8192, 16384, 32768];
const UPSERT =
  'INSERT INTO nodes (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data';

interface Contender {
  readonly pageSize: number;
  readonly path: string;
  readonly db: Database.Database;
  readonly upsert: Database.Statement;
  next: number;
}

interface Round {
  readonly commitMs: number;
  readonly checkpointMs: number;
  readonly walBytes: number;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round((sorted[Math.floor(sorted.length / 2)] ?? 0) * 100) / 100;
}

function open(directory: string, pageSize: number): Contender {
  const path = join(directory, `pages-${pageSize}.db`);
  const db = new Database(path);
  db.pragma(`page_size = ${pageSize}`);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('wal_autocheckpoint = 0');
  db.pragma('cache_size = -8192');
  db.exec('CREATE TABLE nodes (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT');
  return { pageSize, path, db, upsert: db.prepare(UPSERT), next: 0 };
}

/** Frames written since the WAL began anew. */
function walFrames(db: Database.Database): number {
  const [state]: unknown[] = [db.pragma('wal_checkpoint(NOOP)')].flat();
  return typeof state === 'object' && state !== null && 'log' in state ? Number(state.log) : 0;
}

/** Commits these nodes in one transaction, then checkpoints. */
function commitGroup({ db, upsert, pageSize }: Contender, ids: readonly number[]): Round {
  const bytes = randomBytes(NODE_BYTES * ids.length);
  const begin = performance.now();
  db.exec('BEGIN IMMEDIATE');
  ids.forEach((id, index) => {
    upsert.run(POOL_BASE + id, bytes.subarray(index * NODE_BYTES, (index + 1) * NODE_BYTES));
  });
  db.exec('COMMIT');
  const committed = performance.now();
  const walBytes = walFrames(db) * pageSize;
  db.pragma('wal_checkpoint(RESTART)');
  const checkpointMs = performance.now() - committed;
  return { commitMs: committed - begin, checkpointMs, walBytes };
}

function append(contender: Contender, count: number): Round {
  const first = contender.next;
  contender.next += count;
  return commitGroup(
    contender,
    Array.from({ length: count }, (_, index) => first + index),
  );
}

/** Random nodes, in order of their numbers as the store commits them. */
function update(contender: Contender, count: number): Round {
  const ids = Array.from({ length: count }, () => Math.floor(Math.random() * LOADED_NODES));
  return commitGroup(
    contender,
    ids.sort((a, b) => a - b),
  );
}

function compare(contenders: readonly Contender[], workload: 'update' | 'append', count: number) {
  const rounds = new Map(contenders.map(({ pageSize }): [number, Round[]] => [pageSize, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const contender of contenders) {
      const run = workload === 'update' ? update : append;
      rounds.get(contender.pageSize)?.push(run(contender, count));
    }
  }
  for (const [pageSize, done] of rounds) {
    report({
      workload,
      nodes: count,
      pageSize,
      commitMs: median(done.map(({ commitMs }) => commitMs)),
      checkpointMs: median(done.map(({ checkpointMs }) => checkpointMs)),
      walBytesPerNode: Math.round(median(done.map(({ walBytes }) => walBytes)) / count),
    });
  }
}

function compareReads(contenders: readonly Contender[]): void {
  for (const { db, pageSize, path } of contenders) {
    const select = db.prepare('SELECT data FROM nodes WHERE id = ?').pluck();
    const begin = performance.now();
    for (let read = 0; read < 10_000; read++) {
      select.get(POOL_BASE + Math.floor(Math.random() * LOADED_NODES));
    }
    const readUs = Math.round((performance.now() - begin) / 0.1) / 100;
    report({ pageSize, readUs, fileBytesPerNode: Math.round(statSync(path).size / LOADED_NODES) });
  }
}

function report(figure: object): void {
  console.log(JSON.stringify(figure));
}

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'metadata-pages-'));
const contenders = PAGE_SIZES.map((pageSize) => open(directory, pageSize));
for (const contender of contenders) {
  while (contender.next < LOADED_NODES) append(contender, 2000);
}
compareReads(contenders);
for (const count of [1, 16, 256, 1024, 2048]) {
  compare(contenders, 'update', count);
  compare(contenders, 'append', count);
}
for (const { db } of contenders) db.close();
rmSync(directory, { recursive: true });
