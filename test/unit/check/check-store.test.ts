import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkStore } from '../../../src/check/check-store.ts';
import { type Finding, invariants } from '../../../src/check/finding.ts';
import type { PageKind, Row } from '../../../src/pool/metadata-store.ts';
import type { MemorySource } from '../../support/memory-source.ts';
import { POOL, POOL_NUMBER, StoreBuilder, wordsOf } from '../../support/store-builder.ts';

const FAR = 2 ** 32 + 5;

/** Disks, copies, clones, dead roots and tombstones; blocks in three windows of 32768. */
function soundStore(): MemorySource {
  const store = new StoreBuilder([
    { blocks: 50_000, highWater: 40_000 },
    { blocks: 48_000, highWater: 48_000 },
  ]);
  store.leaf(2, { 0: [0, 1], 1: [1, 1], 511: [70_000, 3] });
  store.leaf(3, { 0: [2, 4], 1: [3, 2], 2: [39_999, 4] });
  store.leaf(4, { 0: [4, 5], 1: [3, 2], 2: [-1, 5], 3: [97_999, 5] });
  store.inner(5, { 0: 2, 1: 3 });
  store.inner(6, { 0: 2, 1: 4 });
  store.disk('working', 6, 5, 1000).copy('frozen', 5, 4, 1000).disk('clone', 5, 6, 1000);
  store.leaf(7, { 9: [33_000, 7] });
  store.inner(8, { 7: 7 });
  store.inner(FAR, { 2: 8 });
  store.disk('tall', FAR, 7, 512 * 512 * 3);
  store.leaf(9, { 5: [10, 1] });
  store.disk('low', 9, 8, 6).copy('empty', 0, 8, 6);
  store.disk('new', 0, 9, 1);
  store.leaf(1030, { 5: [11, 2] });
  store.leaf(1031, { 5: [12, 2], 6: [13, 1] });
  store.dead(1030, 1).dead(1031, 2).copy('kept', 1031, 3, 7);
  store.copy('gone', 99, 3, 7, 'deleted').copy('hidden', 9, 7, 6, 'internal');
  store.leaf(1040, { 5: [14, 1] });
  store.leaf(1041, { 6: [15, 1], 7: [-1, 2] });
  store.copy('filling', 1040, 3, 8, 'ready', 1041);
  rowsAbout(store);
  return store.build();
}

function rowsAbout(store: StoreBuilder): void {
  store.row('checkpoints', {
    id: 'past-id',
    generation: 2,
    lineage: '[[1,1],[2,2]]',
    capacity_bytes: 512,
    block_size_bytes: 65_536,
  });
  store.row('checksums', { copy: 'frozen-id', segment: 0, crcs: new Uint8Array(4) });
  store.row('checksums', { copy: 'gone-id', segment: 0, crcs: new Uint8Array(4) });
  store.row('groups', { id: 'group-id', name: 'together' });
  store.row('targets', { id: 'target-id', name: 'shelf' });
  store.row('jobs', { id: 'job-id' });
  store.row('backups', { id: 'b1', target: 'target-id', state: 'complete', job: 'pruned' });
  store.row('backups', { id: 'b2', target: 'target-id', state: 'creating', job: 'job-id' });
}

function check(source: MemorySource): Finding[] {
  return checkStore(source, { windowBlocks: 32_768 });
}

function change(source: MemorySource, table: string, index: number, cells: Row): void {
  const rows = source.rows(table);
  rows[index] = { ...rows[index], ...cells };
}

/** Rows in the order in which soundStore makes them. */
const disks = ['working', 'clone', 'tall', 'low', 'new'];
const copies = ['frozen', 'empty', 'kept', 'gone', 'hidden', 'filling'];

function disk(source: MemorySource, name: string, cells: Row): void {
  change(source, 'disks', disks.indexOf(name), cells);
}

function copy(source: MemorySource, name: string, cells: Row): void {
  change(source, 'copies', copies.indexOf(name), cells);
}

function add(source: MemorySource, kind: PageKind, number: number, by: Record<number, number>) {
  const words = wordsOf(source, kind, number);
  for (const [index, value] of Object.entries(by)) words[Number(index)]! += value;
}

const SUMMARY = 2 ** 32;

/** Sets or clears the bit of a block, and counts it. */
function setUsed(source: MemorySource, block: number, used: boolean): void {
  const group = Math.floor(block / 32_768);
  const mask = 2 ** (block % 32);
  add(source, 'bitmap', group, { [Math.floor((block % 32_768) / 32)]: used ? mask : -mask });
  add(source, 'bitmap', SUMMARY, { [group]: used ? 1 : -1 });
}

function cut(source: MemorySource, kind: PageKind, number: number): void {
  const pages = source.pagesOf(POOL_NUMBER, kind);
  pages.set(number, pages.get(number)!.slice(0, 100));
}

function put(source: MemorySource, kind: PageKind, number: number, bytes = 4096): Uint32Array {
  source.pagesOf(POOL_NUMBER, kind).set(number, new Uint8Array(bytes));
  return wordsOf(source, kind, number);
}

function remove(source: MemorySource, number: number): void {
  source.pagesOf(POOL_NUMBER, 'node').delete(number);
}

function dead(source: MemorySource, node: number, height: number): void {
  source.rows('dead_roots').push({ pool: POOL, node, height, count: 1, mapped_blocks: 0 });
}

type Damage = readonly [keyof typeof invariants, string, (source: MemorySource) => void];

const damages: readonly Damage[] = [
  ['ROW_VALUE', 'a block size that is none', (s) => change(s, 'pools', 0, { block_size_bytes: 9 })],
  ['ROW_VALUE', 'a disk of generation 0', (s) => disk(s, 'low', { generation: 0 })],
  ['ROW_VALUE', 'a lineage that is none', (s) => disk(s, 'new', { lineage: '[]' })],
  ['ROW_VALUE', 'a lineage that goes back', (s) => copy(s, 'empty', { lineage: '[[9,8]]' })],
  ['ROW_VALUE', 'a lineage of others', (s) => change(s, 'checkpoints', 0, { generation: 3 })],
  [
    'ROW_VALUE',
    'a checkpoint of odd blocks',
    (s) => change(s, 'checkpoints', 0, { block_size_bytes: 9 }),
  ],
  [
    'LINE_DUPLICATE',
    'two disks on one',
    (s) => {
      disk(s, 'low', { lineage: '[[2,8]]' });
      disk(s, 'new', { lineage: '[[2,9]]' });
    },
  ],
  [
    'CHECKPOINT_OF_COPY',
    'a copy that is there',
    (s) => change(s, 'checkpoints', 0, { id: 'kept-id' }),
  ],
  ['ROW_VALUE', 'a height without a node', (s) => disk(s, 'new', { root_height: 1 })],
  ['ROW_VALUE', 'mapped blocks without a node', (s) => copy(s, 'empty', { mapped_blocks: 1 })],
  ['ROW_VALUE', 'a dead root without a reference', (s) => change(s, 'dead_roots', 1, { count: 0 })],
  ['NAME_DUPLICATE', 'a disk named as a copy', (s) => disk(s, 'low', { name: 'frozen' })],
  [
    'NAME_DUPLICATE',
    'two targets of one name',
    (s) => void s.rows('targets').push({ id: 't2', name: 'shelf' }),
  ],
  ['REFERENCE_MISSING', 'a disk in no pool', (s) => disk(s, 'working', { pool: 'none' })],
  ['REFERENCE_MISSING', 'the group of a copy', (s) => copy(s, 'frozen', { group_id: 'none' })],
  ['NAME_DUPLICATE', 'a copy named as a group', (s) => copy(s, 'frozen', { name: 'together' })],
  ['REFERENCE_MISSING', 'a copy in no pool', (s) => copy(s, 'kept', { pool: 'none' })],
  ['REFERENCE_MISSING', 'a dead root', (s) => change(s, 'dead_roots', 0, { pool: 'none' })],
  ['REFERENCE_MISSING', 'the job of a disk', (s) => disk(s, 'low', { job: 'none' })],
  ['REFERENCE_MISSING', 'checksums', (s) => change(s, 'checksums', 0, { copy: 'none' })],
  ['REFERENCE_MISSING', 'the target', (s) => change(s, 'backups', 0, { target: 'none' })],
  ['REFERENCE_MISSING', 'the job of a backup', (s) => change(s, 'backups', 1, { job: 'none' })],
  ['REFERENCE_MISSING', 'an extent in no file', (s) => change(s, 'pool_extents', 1, { file: 7 })],
  [
    'REFERENCE_MISSING',
    'a file of no pool',
    (s) => void s.rows('pool_files').push({ pool: 'none', file: 0, size_bytes: 0 }),
  ],
  ['GENERATION_DUPLICATE', 'a taken generation', (s) => disk(s, 'new', { generation: 5 })],
  ['EXTENT_GAP', 'a gap of a block', (s) => change(s, 'pool_extents', 1, { first_block: 50_001 })],
  ['EXTENT_GAP', 'a number left out', (s) => change(s, 'pool_extents', 1, { extent: 2 })],
  ['EXTENT_OUTSIDE_FILE', 'a short file', (s) => change(s, 'pool_files', 1, { size_bytes: 2e9 })],
  [
    'EXTENT_OVERLAP',
    'two extents in one place',
    (s) => change(s, 'pool_extents', 1, { file: 0, file_block: 10 }),
  ],
  ['EXTENT_MARK', 'a far mark', (s) => change(s, 'pool_extents', 0, { high_water: 50_001 })],
  ['PAGE_LENGTH', 'a short leaf', (s) => cut(s, 'node', 2)],
  ['PAGE_LENGTH', 'a short inner node', (s) => cut(s, 'node', 8)],
  ['PAGE_LENGTH', 'a short root', (s) => cut(s, 'node', FAR)],
  ['PAGE_LENGTH', 'a short page of node counts', (s) => cut(s, 'node-count', 0)],
  ['PAGE_LENGTH', 'a short page of block counts', (s) => cut(s, 'block-count', 0)],
  ['PAGE_LENGTH', 'a short bitmap', (s) => cut(s, 'bitmap', 1)],
  ['PAGE_LENGTH', 'a short summary', (s) => cut(s, 'bitmap', SUMMARY)],
  ['PAGE_OUTSIDE_POOL', 'a bitmap too many', (s) => put(s, 'bitmap', 3)],
  ['PAGE_OUTSIDE_POOL', 'a summary too many', (s) => put(s, 'bitmap', SUMMARY + 1)],
  ['PAGE_OUTSIDE_POOL', 'block counts too many', (s) => put(s, 'block-count', 96)],
  [
    'PAGE_OUTSIDE_POOL',
    'a node of a pool that is not there',
    (s) => s.pagesOf(9, 'node').set(1, new Uint8Array(4096)),
  ],
  ['NODE_MISSING', 'a lost leaf', (s) => remove(s, 4)],
  ['NODE_MISSING', 'a lost inner node', (s) => remove(s, 8)],
  ['NODE_MISSING', 'a lost root', (s) => remove(s, FAR)],
  ['NODE_ORPHAN', 'a forgotten dead root', (s) => s.rows('dead_roots').shift()],
  ['NODE_ORPHAN', 'a leaf of nobody', (s) => void (put(s, 'node', 50)[1] = 1)],
  ['NODE_COUNT', 'one too many', (s) => add(s, 'node-count', 0, { 2: 1 })],
  ['NODE_COUNT', 'one too few', (s) => add(s, 'node-count', 1, { 7: -1 })],
  ['NODE_COUNT', 'a count of no node', (s) => add(s, 'node-count', 0, { 500: 1 })],
  ['NODE_COUNT', 'a count beyond the nodes', (s) => void (put(s, 'node-count', 5000)[0] = 1)],
  ['NODE_HEIGHT', 'a disk that says 2 for 3', (s) => disk(s, 'tall', { root_height: 2 })],
  [
    'NODE_HEIGHT',
    'a leaf beside inner nodes',
    (s) => {
      add(s, 'node', FAR % 2 ** 40, { 6: 9, 1027: 1, 1539: 1 });
      add(s, 'node-count', 0, { 9: 1 });
      disk(s, 'tall', { mapped_blocks: 2 });
    },
  ],
  ['NODE_HEIGHT', 'a node below itself', (s) => void (put(s, 'node', 50, 8192)[0] = 50)],
  [
    'NODE_EMPTY',
    'a leaf of zeros',
    (s) => {
      put(s, 'node', 60);
      dead(s, 60, 1);
    },
  ],
  [
    'NODE_EMPTY',
    'an inner node of zeros',
    (s) => {
      put(s, 'node', 60, 8192);
      dead(s, 60, 2);
    },
  ],
  ['MAPPED_COUNT', 'a slot of a root', (s) => add(s, 'node', 6, { 1024: 1 })],
  ['MAPPED_COUNT', 'a slot without a node', (s) => add(s, 'node', 6, { 1100: 1 })],
  ['MAPPED_COUNT', 'the row of a disk', (s) => disk(s, 'tall', { mapped_blocks: 2 })],
  ['MAPPED_COUNT', 'a dead root', (s) => change(s, 'dead_roots', 0, { mapped_blocks: 2 })],
  [
    'BLOCK_OUTSIDE_POOL',
    'the first block after the end',
    (s) => {
      setUsed(s, 33_000, false);
      add(s, 'node', 7, { 18: 98_000 - 33_000 });
    },
  ],
  ['BLOCK_ABOVE_MARK', 'a low mark', (s) => change(s, 'pool_extents', 0, { high_water: 39_999 })],
  ['BLOCK_FREE_BUT_HELD', 'a cleared bit', (s) => setUsed(s, 10, false)],
  ['BLOCK_LEAKED', 'a set bit', (s) => setUsed(s, 20, true)],
  ['BLOCK_LEAKED', 'a set bit beyond the pool', (s) => setUsed(s, 98_001, true)],
  ['BLOCK_COUNT', 'one too many', (s) => add(s, 'block-count', 0, { 3: 1 })],
  ['BLOCK_COUNT', 'one too few', (s) => add(s, 'block-count', 0, { 3: -1 })],
  ['BLOCK_COUNT', 'the count of a free block', (s) => void (put(s, 'block-count', 90)[0] = 1)],
  ['GROUP_COUNT', 'one too many', (s) => add(s, 'bitmap', SUMMARY, { 1: 1 })],
  ['GROUP_COUNT', 'a group too many', (s) => add(s, 'bitmap', SUMMARY, { 3: 1 })],
  ['ENTRY_BIRTH', 'a block without a birth', (s) => add(s, 'node', 9, { 11: -1 })],
  ['BIRTH_BEYOND_ROOT', 'a copy too old', (s) => copy(s, 'frozen', { generation: 3 })],
  ['BIRTH_BEYOND_ROOT', 'a young tombstone', (s) => add(s, 'node', 4, { 5: 1 })],
  ['BIRTH_BOUND', 'a bound that is too low', (s) => add(s, 'node', 6, { 1537: -2 })],
  ['BORN_SHARED', 'a root that a copy holds', (s) => disk(s, 'clone', { generation: 4 })],
  ['BORN_SHARED', 'a block that a copy holds', (s) => add(s, 'node', 4, { 3: 3 })],
  ['BEYOND_CAPACITY', 'a small disk', (s) => disk(s, 'low', { capacity_bytes: 5 * 65_536 })],
  ['BEYOND_CAPACITY', 'a copy', (s) => copy(s, 'kept', { source_capacity_bytes: 65_536 })],
  ['ROW_VALUE', 'more owed than mapped', (s) => copy(s, 'filling', { mapped_blocks: 0 })],
  ['MAPPED_COUNT', 'a block in no table', (s) => copy(s, 'filling', { mapped_blocks: 3 })],
  ['REFERENCE_MISSING', 'a pool that owes', (s) => copy(s, 'filling', { owed_pool: 'none' })],
  [
    'OWED_TWICE',
    'a block in both tables',
    (s) => add(s, 'node', 1040, { 10: -15, 11: -1, 12: 15, 13: 1 }),
  ],
];

describe('a dedicated copy that is being filled', () => {
  it('has the finding RESERVED_ROOM where its room is not free', () => {
    const store = new StoreBuilder([{ blocks: 2, highWater: 2 }]);
    store.leaf(2, { 0: [0, 1], 1: [1, 1] });
    store.disk('source', 2, 2, 4).copy('filling', 0, 1, 4, 'ready', 2);
    const findings = check(store.build());
    expect(findings.map(({ code, details }) => [code, details])).toEqual([
      ['RESERVED_ROOM', { pool: POOL, free: 0, reserved: 2 }],
    ]);
  });

  it('holds what it is owed also when it was deleted', () => {
    const store = new StoreBuilder([{ blocks: 9, highWater: 9 }]);
    store.leaf(2, { 0: [0, 1] });
    store.copy('gone', 0, 1, 4, 'deleted', 2);
    expect(check(store.build())).toEqual([]);
  });
});

describe('a store that was damaged', () => {
  const sound = soundStore();

  it('is sound before', () => {
    expect(check(sound)).toEqual([]);
    expect(checkStore(sound)).toEqual([]);
  });

  it.each(damages)('has the finding %s, and no other, for %s', (code, _, damage) => {
    const source = sound.clone();
    damage(source);
    const findings = check(source);
    expect(findings.map((finding) => finding.code)).toEqual([code]);
    expect(checkStore(source)).toEqual(findings);
    expect(structuredClone(findings)).toEqual(findings);
  });

  it('has a damage for every invariant', () => {
    // RESERVED_ROOM has a store of its own
    const damaged = new Set([...damages.map(([code]) => code), 'RESERVED_ROOM']);
    expect([...damaged].sort()).toEqual(Object.keys(invariants).sort());
  });

  it('is found out whichever bit of counts, bitmaps, inner nodes or places is wrong', () => {
    const numbers = { node: [2, 5, 6, 8, FAR], 'node-count': [0, 1], 'block-count': [0] };
    const pages = [
      ...Object.entries({ ...numbers, bitmap: [0, 1, 2, SUMMARY] }).flatMap(([kind, list]) =>
        list.map((number) => ({ kind: kind as PageKind, number })),
      ),
    ];
    const anyPage = fc.constantFrom(...pages);
    const flips = fc.record({ page: anyPage, word: fc.nat(1535), bit: fc.nat(31) });
    fc.assert(
      fc.property(flips, ({ page, word, bit }) => {
        const source = sound.clone();
        const words = wordsOf(source, page.kind, page.number);
        // many a birth would be right
        const any = word % words.length;
        const at = page.number === 2 ? any - (any % 2) : any;
        const before = words[at]!;
        words[at] = (before ^ (2 ** bit)) >>> 0;
        expect(check(source)).not.toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});

it('every invariant is explained in docs/check.md, and nothing else', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/check.md'), 'utf8');
  const explained = [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((found) => found[1]!);
  expect(explained).toEqual(Object.keys(invariants));
});

describe('a full check', () => {
  it('lists no more findings than asked for', () => {
    const source = soundStore();
    for (const node of [2, 3, 4, 7]) add(source, 'node-count', 0, { [100 + node]: 1 });
    expect(check(source)).toHaveLength(4);
    expect(checkStore(source, { maxFindings: 2 })).toHaveLength(2);
  });

  it('tells how far it is and ends when told', () => {
    const seen: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }): void => {
      seen.push(done / total);
    };
    checkStore(soundStore(), { onProgress });
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
    const end = new AbortController();
    const cancel = (): void => {
      end.abort();
    };
    const cancelled = (): Finding[] =>
      checkStore(soundStore(), { signal: end.signal, onProgress: cancel });
    expect(cancelled).toThrow('cancelled');
  });
});
