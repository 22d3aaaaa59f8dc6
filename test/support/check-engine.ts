/**
 * Checks what an engine has committed: every cross-table invariant, over any metadata store.
 */
import { checkStore } from '../../src/check/check-store.ts';
import type { Finding } from '../../src/check/finding.ts';
import { GROUP_BLOCKS } from '../../src/pool/allocator.ts';
import type { MetadataStore, PageKind } from '../../src/pool/metadata-store.ts';
import { pageKinds } from '../../src/pool/metadata-store.ts';
import { MemorySource } from './memory-source.ts';
import type { Engine } from './engine.ts';

const tables = [
  'pools',
  'pool_files',
  'pool_extents',
  'disks',
  'copies',
  'checkpoints',
  'groups',
  'dead_roots',
  'checksums',
  'targets',
  'backups',
  'jobs',
];
const SLOTS = 1024;
const SUMMARY = 2 ** 32;

/** Numbers of the pages that a pool may have. */
function numbersOf(kind: PageKind, totalBlocks: number, nextNode: number): number[] {
  const upTo = (count: number, first = 0): number[] =>
    Array.from({ length: count }, (_, index) => first + index);
  const groups = Math.ceil(totalBlocks / GROUP_BLOCKS);
  switch (kind) {
    case 'node':
      return upTo(nextNode);
    case 'node-count':
      return upTo(Math.ceil(nextNode / SLOTS));
    case 'block-count':
      return upTo(Math.ceil(totalBlocks / SLOTS));
    case 'bitmap':
      return [...upTo(groups), ...upTo(Math.ceil(groups / SLOTS), SUMMARY)];
  }
}

/**
 * What the store holds now. All reads are called in one turn, so no commit comes between them.
 */
export async function readSource(engine: Engine, store: MetadataStore): Promise<MemorySource> {
  const source = new MemorySource();
  const reads = tables.map(async (table) => {
    source.tables.set(table, await store.rows(table));
  });
  for (const pool of engine.pools.list()) {
    const { number } = pool.record;
    for (const kind of pageKinds) {
      const numbers = numbersOf(kind, pool.allocator.totalBlocks, pool.nextNodeId);
      const read = store.readPages(number, kind, numbers).then((contents) => {
        contents.forEach((data, index) => {
          if (data !== undefined) source.pagesOf(number, kind).set(numbers[index]!, data);
        });
      });
      reads.push(read);
    }
  }
  await Promise.all(reads);
  return source;
}

/**
 * Flushes what can be flushed and checks what is committed then; an empty answer is a sound store.
 * Background work may go on meanwhile. Jobs are not the engine's, so fences of unknown jobs pass.
 */
export async function checkEngine(engine: Engine, store: MetadataStore): Promise<Finding[]> {
  for (const pool of engine.pools.list()) {
    if (pool.poison === undefined) await pool.flush();
  }
  const findings = checkStore(await readSource(engine, store));
  return findings.filter(({ details }) => details['to'] !== 'jobs');
}
