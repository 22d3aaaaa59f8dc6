/**
 * What a commit to the metadata store costs, as the engine sees it: one JSON line a figure.
 *
 * Run: node bench/metadata-commits.ts [directory]. Peer figures and the decision:
 * docs/adr/0004-metadata-pages.md.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Meta } from '../src/meta/meta.ts';
import type { PageImage } from '../src/pool/metadata-store.ts';

const POOL = 3;
const LOADED = 40_000;
const ROUNDS = 40;

type Workload = 'random' | 'neighbours' | 'append';

function summary(milliseconds: readonly number[]) {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const at = (part: number): number => {
    const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
    return Math.round(value * 100) / 100;
  };
  return { p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) };
}

function report(figure: string, facts: object): void {
  console.log(JSON.stringify({ figure, ...facts }));
}

function images(numbers: readonly number[]): PageImage[] {
  return numbers.map((number) => ({ kind: 'node', number, data: randomBytes(4096) }));
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
}

async function commitNodes(meta: Meta, numbers: readonly number[]): Promise<number> {
  const batch = { pages: [{ pool: POOL, images: images(numbers) }], rows: [] };
  return await timed(() => meta.commit(batch));
}

async function measureGroups(meta: Meta, size: number, workload: Workload): Promise<void> {
  let next = (await meta.lastPage(POOL, 'node')) + 1;
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const numbers = Array.from({ length: size }, (_, index) => {
      if (workload === 'append') return next++;
      return workload === 'random'
        ? Math.floor(Math.random() * LOADED)
        : (round * size + index) % LOADED;
    });
    // the checkpoint of the round before is over by then
    await sleep(5 + size / 25);
    times.push(await commitNodes(meta, numbers));
  }
  report('commit', { pages: size, workload, ...summary(times) });
}

async function measureSmall(meta: Meta): Promise<void> {
  const times: number[] = [];
  for (let value = 0; value < 2000; value++) {
    const rows = [{ table: 'store', key: { key: 'bench' }, row: { value: String(value) } }];
    times.push(await timed(() => meta.commit({ pages: [], rows })));
  }
  report('commit of one row', summary(times));
  for (const count of [1, 16, 256]) {
    const reads: number[] = [];
    for (let read = 0; read < 200; read++) {
      const numbers = Array.from({ length: count }, () => Math.floor(Math.random() * LOADED));
      reads.push(await timed(() => meta.readPages(POOL, 'node', numbers)));
    }
    report('read', { pages: count, ...summary(reads) });
  }
}

/** Groups of 256 one after the other, while `body` runs (or 200 of them). */
async function measureSustained(meta: Meta, figure: string, body?: () => Promise<unknown>) {
  const progress = { running: body !== undefined };
  const work = body?.().finally(() => {
    progress.running = false;
  });
  const times: number[] = [];
  const begin = performance.now();
  while (body === undefined ? times.length < 200 : progress.running) {
    const numbers = Array.from({ length: 256 }, () => Math.floor(Math.random() * LOADED));
    times.push(await commitNodes(meta, numbers));
  }
  await work;
  const seconds = (performance.now() - begin) / 1000;
  report(figure, { pagesPerSecond: Math.round((256 * times.length) / seconds), ...summary(times) });
}

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'metadata-commits-'));
const path = join(directory, 'meta.db');
const meta = await Meta.open({ path });
for (let first = 0; first < LOADED; first += 1000) {
  await commitNodes(
    meta,
    Array.from({ length: 1000 }, (_, index) => first + index),
  );
}
for (const size of [1, 16, 256, 512, 1024, 2048]) {
  for (const workload of ['random', 'neighbours', 'append'] as const) {
    await measureGroups(meta, size, workload);
  }
}
await measureSmall(meta);
await measureSustained(meta, 'sustained groups of 256, random');
const megabytes = Math.round((await meta.sumBytes()) / 1e6);
report('database', { megabytes });
await measureSustained(meta, 'the same while the database is copied', () =>
  meta.copyTo(join(directory, 'copy.db')),
);
await measureSustained(meta, 'the same while every row is checked', () =>
  meta.check({ deep: true }),
);
report('close', { ms: Math.round(await timed(() => meta.close())) });
rmSync(directory, { recursive: true });
