/**
 * Gives back what dead roots held, in short steps that survive a restart.
 *
 * A dead entry is one or more references to a table node that nobody uses any more. A step takes
 * one entry: if others hold the node too, the references are dropped; the last one turns an inner
 * node into dead entries for its children, or drops the blocks of a leaf. The entries are rows and
 * commit with the pages, so a crash between two steps loses and repeats nothing. Lowest nodes go
 * first, which bounds the entries by 512 per level.
 *
 * A reference can be held: it is recorded as dead, and reclaimed after `release`, or as soon as a
 * crash has made an end of whoever might have taken it back.
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
  /** References that are dead only once something else is durable. */
  held: number;
  readonly mapped: number;
  /** Blocks that may become free. */
  pending: number;
}

/** A reference that may come back to life. */
export type HeldRoot = Pick<TableRoot, 'node' | 'height'>;

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
      const root = {
        node: Number(row['node']),
        height: Number(row['height']),
        mapped: Number(row['mapped_blocks']),
      };
      this.#put(root, Number(row['count']));
    }
  }

  /** Upper bound of the blocks that are still to be given back. */
  get pendingBlocks(): number {
    let blocks = 0;
    for (const level of this.#dead) {
      for (const entry of level.values()) blocks += entry.pending;
    }
    return blocks;
  }

  get isIdle(): boolean {
    return this.#next() === undefined;
  }

  /**
   * One reference to this root may be dead: recorded in this turn's batch, and left alone.
   * @param pending blocks below it that nobody else may hold
   */
  hold(root: TableRoot, pending: number): HeldRoot {
    this.#put(root, 0, pending);
    this.#entry(root).held += 1;
    this.#changed(root.node, root.height);
    return root;
  }

  /** A held reference is dead. */
  release(root: HeldRoot): void {
    const entry = this.#entry(root);
    entry.held -= 1;
    entry.references += 1;
    this.start();
  }

  /** A held reference is alive, and someone else's. */
  takeBack(root: HeldRoot): void {
    const entry = this.#entry(root);
    entry.held -= 1;
    if (entry.held + entry.references === 0) this.#dead[root.height]?.delete(root.node);
    this.#changed(root.node, root.height);
  }

  /** Reclaims a released root before others, if it is still there; not what lies below it. */
  async reclaim({ node, height }: HeldRoot): Promise<void> {
    while (this.#step !== undefined) await this.#step;
    const entry = this.#dead[height]?.get(node);
    if (this.#stopped || entry === undefined || entry.references === 0) return;
    await (this.#step = this.#stepOnce(entry));
  }

  /** One reference to this root is dead, in this turn's batch; reclaiming starts by itself. */
  add(root: TableRoot): void {
    if (root.node === 0) return;
    this.#put(root, 1);
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
    const entry = this.#next();
    if (entry !== undefined) await (this.#step ??= this.#stepOnce(entry));
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

  /** The lowest first. */
  #next(): DeadEntry | undefined {
    for (const level of this.#dead) {
      for (const entry of level.values()) if (entry.references > 0) return entry;
    }
    return undefined;
  }

  #entry({ node, height }: HeldRoot): DeadEntry {
    return defined(this.#dead[height]?.get(node), 'a held root');
  }

  async #stepOnce(entry: DeadEntry): Promise<void> {
    try {
      await this.#resident(entry);
      this.#take(entry);
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
  #take(entry: DeadEntry): void {
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
          const below = { node: child, height: entry.height - 1, mapped: mappedBelow(page, slot) };
          if (child !== 0) this.#put(below, 1);
          if (child !== 0) this.#changed(child, below.height);
        }
      }
      pages.remove(page);
      entry.references = 0;
    }
    if (entry.held === 0) this.#dead[entry.height]?.delete(entry.node);
    this.#changed(entry.node, entry.height);
  }

  #put(root: TableRoot, references: number, pending = root.mapped): void {
    const { node, height, mapped } = root;
    for (let level = this.#dead.length; level <= height; level += 1) this.#dead.push(new Map());
    const level = defined(this.#dead[height], 'level');
    const entry = level.get(node);
    if (entry === undefined) {
      level.set(node, { node, height, references, held: 0, mapped, pending });
    } else {
      entry.references += references;
      entry.pending = Math.max(entry.pending, pending);
    }
  }

  #changed(node: number, height: number): void {
    this.#pool.changeRow(`dead ${node}`, () => {
      const entry = this.#dead[height]?.get(node);
      const key = { pool: this.#pool.id, node };
      if (entry === undefined) return { table: 'dead_roots', key, row: undefined };
      const { references, held, mapped } = entry;
      const row = { height, count: references + held, mapped_blocks: mapped };
      return { table: 'dead_roots', key, row };
    });
  }
}
