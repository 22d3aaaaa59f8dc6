/**
 * Gives back what dead roots held, in short steps that survive a restart.
 *
 * A dead entry is one or more references to a table node that nobody uses any more. A step takes
 * one entry: if others hold the node too, the references are dropped; the last one turns an inner
 * node into dead entries for its children, or drops the blocks of a leaf. The entries are rows and
 * commit with the pages, so a crash between two steps loses and repeats nothing. Lowest nodes go
 * first, which bounds the entries by 512 per level.
 *
 * Invariant: a node counts each dead entry's references as holders until the step that drops them.
 */
import { defined } from '../base/assert.ts';
import { isStorageError } from '../base/errors.ts';
import type { Row } from '../pool/metadata-store.ts';
import type { Pool } from '../pool/pool.ts';
import { FAN_OUT, type TableRoot, childOf, entryAt, mappedBelow } from './allocation-table.ts';
import type { PageKey } from '../pool/metadata-pages.ts';

/** After a database without room. */
const RETRY_MS = 1000;

interface DeadEntry {
  readonly node: number;
  readonly height: number;
  references: number;
  readonly mapped: number;
}

export class Reclaimer {
  readonly #pool: Pool;
  /** By height, so that the lowest goes first. */
  readonly #dead: Map<number, DeadEntry>[] = [];
  #running: Promise<void> | undefined;
  #step: Promise<void> | undefined;
  #stopped = false;
  #retry: NodeJS.Timeout | undefined;
  readonly #onError: (error: unknown) => void;

  constructor(pool: Pool, rows: readonly Row[], onError: (error: unknown) => void) {
    this.#pool = pool;
    this.#onError = onError;
    for (const row of rows) {
      this.#put(
        Number(row['node']),
        Number(row['height']),
        Number(row['count']),
        Number(row['mapped_blocks']),
      );
    }
  }

  /** Upper bound of the blocks that are still to be given back. */
  get pendingBlocks(): number {
    let blocks = 0;
    for (const level of this.#dead) {
      for (const entry of level.values()) blocks += entry.mapped;
    }
    return blocks;
  }

  get isIdle(): boolean {
    return this.#dead.every((level) => level.size === 0);
  }

  /** One reference to this root is dead, in this turn's batch; reclaiming starts by itself. */
  add(root: TableRoot): void {
    if (root.node === 0) return;
    this.#put(root.node, root.height, 1, root.mapped);
    this.#changed(root.node, root.height);
    this.start();
  }

  /** Works in the background until nothing is dead. */
  start(): void {
    if (this.#stopped || this.isIdle) return;
    this.#running ??= this.#run();
  }

  /** Stops after the step under way; the rest goes on after the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    await this.#running;
  }

  /** One step for a caller that needs room now. False if there was nothing to do. */
  async step(): Promise<boolean> {
    if (this.#stopped || this.isIdle) return false;
    await (this.#step ??= this.#stepOnce());
    return true;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopped && (await this.step())) {
        await this.#pool.throttle();
        await new Promise((resolve) => setImmediate(resolve));
      }
      this.#running = undefined;
      // something may have died between the last step and here
      this.start();
    } catch (error) {
      this.#running = undefined;
      this.#onError(error);
      if (isStorageError(error, 'METADATA_FULL')) this.#startLater();
    }
  }

  #startLater(): void {
    if (this.#stopped) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.start();
    }, RETRY_MS);
    this.#retry.unref();
  }

  async #stepOnce(): Promise<void> {
    try {
      const level = defined(
        this.#dead.find((candidate) => candidate.size > 0),
        'a level with dead entries',
      );
      const entry = defined(level.values().next().value, 'a dead entry');
      await this.#resident(entry);
      this.#take(level, entry);
    } finally {
      this.#step = undefined;
    }
  }

  async #resident(entry: DeadEntry): Promise<void> {
    for (;;) {
      const missing = this.#missingFor(entry);
      if (missing.length === 0) return;
      await this.#pool.pages.ensure(missing);
    }
  }

  #missingFor(entry: DeadEntry): PageKey[] {
    const { pages, nodeCounts } = this.#pool;
    const key: PageKey = { kind: 'node', number: entry.node };
    const missing: PageKey[] = [];
    if (!nodeCounts.isResident(entry.node)) missing.push(nodeCounts.keyOf(entry.node));
    if (!pages.isResident('node', entry.node)) return [...missing, key];
    if (entry.height > 1) return missing;
    const page = pages.page('node', entry.node);
    for (let slot = 0; slot < FAN_OUT; slot += 1) {
      const { block } = entryAt(page, slot);
      if (block >= 0) missing.push(...this.#pool.missingForDrop(block));
    }
    return missing;
  }

  /** In one turn, on resident pages. */
  #take(level: Map<number, DeadEntry>, entry: DeadEntry): void {
    const { pages, nodeCounts } = this.#pool;
    while (entry.references > 0 && nodeCounts.extra(entry.node) > 0) {
      nodeCounts.drop(entry.node);
      entry.references -= 1;
    }
    if (entry.references > 0) {
      const page = pages.page('node', entry.node);
      for (let slot = 0; slot < FAN_OUT; slot += 1) {
        if (entry.height === 1) {
          const { block } = entryAt(page, slot);
          if (block >= 0) this.#pool.dropBlock(block);
        } else {
          const child = childOf(page, slot);
          if (child !== 0) this.#put(child, entry.height - 1, 1, mappedBelow(page, slot));
          if (child !== 0) this.#changed(child, entry.height - 1);
        }
      }
      pages.remove(page);
    }
    level.delete(entry.node);
    this.#changed(entry.node, entry.height);
  }

  #put(node: number, height: number, references: number, mapped: number): void {
    for (let level = this.#dead.length; level <= height; level += 1) this.#dead.push(new Map());
    const level = defined(this.#dead[height], 'level');
    const entry = level.get(node);
    if (entry === undefined) level.set(node, { node, height, references, mapped });
    else entry.references += references;
  }

  #changed(node: number, height: number): void {
    this.#pool.changeRow(`dead ${node}`, () => {
      const entry = this.#dead[height]?.get(node);
      const key = { pool: this.#pool.id, node };
      if (entry === undefined) return { table: 'dead_roots', key, row: undefined };
      const { references, mapped } = entry;
      const row = { height, count: references, mapped_blocks: mapped };
      return { table: 'dead_roots', key, row };
    });
  }
}
