/**
 * Makes sound metadata of one pool by hand: nodes and roots are given, everything that follows from
 * them (counts, bits, sums) is computed in the most naive way.
 */
import { setBit } from '../../src/base/bitmap.ts';
import { DATA_OFFSET } from '../../src/pool/format.ts';
import type { PageKind, Row } from '../../src/pool/metadata-store.ts';
import { MemorySource } from './memory-source.ts';

export const POOL = 'pool-id';
export const POOL_NUMBER = 3;
const BLOCK = 65536;
const GROUP = 32768;

export interface ExtentSpec {
  readonly blocks: number;
  readonly highWater: number;
}

/** Slot → [block, birth]; block -1 is a tombstone. */
export type LeafSpec = Readonly<Record<number, readonly [number, number]>>;

interface Built {
  readonly height: number;
  readonly mapped: number;
  readonly youngest: number;
  readonly words: Uint32Array;
}

export function wordsOf(source: MemorySource, kind: PageKind, number: number): Uint32Array {
  const data = source.page(POOL_NUMBER, kind, number)!;
  return new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4);
}

export class StoreBuilder {
  readonly #nodes = new Map<number, Built>();
  readonly #nodeHolders = new Map<number, number>();
  readonly #blockHolders = new Map<number, number>();
  readonly #extents: readonly ExtentSpec[];
  readonly #rows: Record<string, Row[]> = {
    disks: [],
    copies: [],
    checkpoints: [],
    dead_roots: [],
    checksums: [],
    groups: [],
    targets: [],
    backups: [],
    jobs: [],
  };

  constructor(extents: readonly ExtentSpec[]) {
    this.#extents = extents;
  }

  leaf(number: number, entries: LeafSpec): number {
    const words = new Uint32Array(1024);
    let mapped = 0;
    let youngest = 0;
    for (const [slot, [block, birth]] of Object.entries(entries)) {
      words[Number(slot) * 2] = block + 1;
      words[Number(slot) * 2 + 1] = birth;
      youngest = Math.max(youngest, birth);
      if (block < 0) continue;
      mapped += 1;
      this.#blockHolders.set(block, (this.#blockHolders.get(block) ?? 0) + 1);
    }
    this.#nodes.set(number, { height: 1, mapped, youngest, words });
    return number;
  }

  /** @param children slot → number of a node that was made before */
  inner(number: number, children: Readonly<Record<number, number>>): number {
    const words = new Uint32Array(2048);
    let mapped = 0;
    let youngest = 0;
    let height = 0;
    for (const [slot, child] of Object.entries(children)) {
      const below = this.#nodes.get(child)!;
      words[Number(slot) * 2] = child % 2 ** 32;
      words[Number(slot) * 2 + 1] = Math.floor(child / 2 ** 32);
      words[1024 + Number(slot)] = below.mapped;
      // a bound, so it may be a little too high
      words[1536 + Number(slot)] = below.youngest + 1;
      youngest = Math.max(youngest, below.youngest);
      mapped += below.mapped;
      height = below.height + 1;
      this.#hold(child, 1);
    }
    this.#nodes.set(number, { height, mapped, youngest, words });
    return number;
  }

  disk(name: string, node: number, generation: number, capacityBlocks: number): this {
    this.row('disks', {
      id: `${name}-id`,
      name,
      pool: POOL,
      capacity_bytes: capacityBlocks * BLOCK,
      generation,
      lineage: null,
      state: 'ready',
      job: null,
      ...this.#root(node, 1),
    });
    return this;
  }

  copy(
    name: string,
    node: number,
    generation: number,
    capacityBlocks: number,
    state = 'ready',
    owed = 0,
  ): this {
    const own = this.#root(node, state === 'deleted' ? 0 : 1);
    const theirs = this.#root(owed, owed === 0 ? 0 : 1);
    this.row('copies', {
      id: `${name}-id`,
      name,
      pool: POOL,
      source_capacity_bytes: capacityBlocks * BLOCK,
      generation,
      lineage: null,
      state,
      group_id: null,
      ...own,
      mapped_blocks: Number(own['mapped_blocks']) + Number(theirs['mapped_blocks']),
      owed_pool: owed === 0 ? null : POOL,
      owed_node: owed === 0 ? null : owed,
      owed_height: owed === 0 ? null : (theirs['root_height'] ?? null),
      owed_blocks: owed === 0 ? null : (theirs['mapped_blocks'] ?? null),
    });
    return this;
  }

  dead(node: number, count: number): this {
    const { root_height: height, mapped_blocks } = this.#root(node, count);
    this.row('dead_roots', {
      pool: POOL,
      node,
      height: height!,
      count,
      mapped_blocks: mapped_blocks!,
    });
    return this;
  }

  row(table: string, row: Row): void {
    this.#rows[table]!.push(row);
  }

  build(): MemorySource {
    const source = new MemorySource();
    for (const [table, rows] of Object.entries(this.#rows)) source.tables.set(table, rows);
    this.#buildPool(source);
    const put = (kind: PageKind, number: number, words: Uint32Array): void => {
      source.pagesOf(POOL_NUMBER, kind).set(number, new Uint8Array(words.buffer));
    };
    const page = (kind: PageKind, number: number): Uint32Array => {
      if (source.page(POOL_NUMBER, kind, number) === undefined) {
        put(kind, number, new Uint32Array(1024));
      }
      return wordsOf(source, kind, number);
    };
    for (const [number, { words }] of this.#nodes) put('node', number, words);
    for (const [node, holders] of this.#nodeHolders) {
      if (holders > 1) page('node-count', Math.floor(node / 1024))[node % 1024] = holders - 1;
    }
    for (const [block, holders] of this.#blockHolders) {
      if (holders > 1) page('block-count', Math.floor(block / 1024))[block % 1024] = holders - 1;
      const group = Math.floor(block / GROUP);
      setBit(page('bitmap', group), block % GROUP);
      const summary = page('bitmap', 2 ** 32 + Math.floor(group / 1024));
      summary[group % 1024] = summary[group % 1024]! + 1;
    }
    return source;
  }

  #buildPool(source: MemorySource): void {
    source.tables.set('pools', [
      { id: POOL, number: POOL_NUMBER, name: 'pool', block_size_bytes: BLOCK },
    ]);
    const files: Row[] = [];
    const extents: Row[] = [];
    let first = 0;
    this.#extents.forEach(({ blocks, highWater }, index) => {
      files.push({ pool: POOL, file: index, size_bytes: DATA_OFFSET + blocks * BLOCK });
      extents.push({
        pool: POOL,
        extent: index,
        first_block: first,
        blocks,
        file: index,
        file_block: 0,
        high_water: highWater,
      });
      first += blocks;
    });
    source.tables.set('pool_files', files);
    source.tables.set('pool_extents', extents);
  }

  #hold(node: number, count: number): void {
    this.#nodeHolders.set(node, (this.#nodeHolders.get(node) ?? 0) + count);
  }

  #root(node: number, holders: number): Row {
    if (node === 0) return { root_node: 0, root_height: 0, mapped_blocks: 0 };
    const built = this.#nodes.get(node);
    if (built !== undefined) this.#hold(node, holders);
    return {
      root_node: node,
      root_height: built?.height ?? 1,
      mapped_blocks: built?.mapped ?? 1,
    };
  }
}
