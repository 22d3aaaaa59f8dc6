/**
 * A naive metadata store in memory, as wicked as a real one may be: it clones all that goes in and
 * out, refuses unknown tables and columns, and loses at a crash what it had not acknowledged.
 *
 * `commit` is visible to reads at once and durable when its promise resolves: in a later turn of
 * the event loop, or, while held (`hold`), when `settle` is called. `crash()` gives the store that
 * the next process finds: all acknowledged commits and the first few of the others.
 */
import { StorageError } from '../../src/base/errors.ts';
import { pageId } from '../../src/meta/pages.ts';
import { checkRowChange, checkWhere, tableOf } from '../../src/meta/tables.ts';
import type {
  Batch,
  Cell,
  MetadataStore,
  PageKind,
  Row,
  RowChange,
} from '../../src/pool/metadata-store.ts';

interface State {
  readonly pages: Map<string, Uint8Array>;
  readonly rows: Map<string, Map<string, Row>>;
}

interface PendingCommit {
  readonly batch: Batch;
  readonly resolve: () => void;
}

function cloneState(state: State): State {
  const rows = [...state.rows].map(([name, table]): [string, Map<string, Row>] => [
    name,
    new Map(table),
  ]);
  return { pages: new Map(state.pages), rows: new Map(rows) };
}

function pageKey(pool: number, kind: PageKind, number: number): string {
  return `${kind}/${pageId(pool, number)}`;
}

function putRow(state: State, change: RowChange): void {
  const table = state.rows.get(change.table) ?? new Map<string, Row>();
  state.rows.set(change.table, table);
  const { key, columns } = tableOf(change.table);
  const name = JSON.stringify(key.map((column) => change.key[column.name]));
  if (change.row === undefined) {
    table.delete(name);
    return;
  }
  const given: Row = { ...change.key, ...change.row };
  const cells = columns.map((column): [string, Cell] => [column.name, given[column.name] ?? null]);
  table.set(name, Object.fromEntries(cells));
}

/** Batches are cloned before, so what is kept here is nobody else's. */
function apply(state: State, batch: Batch): void {
  for (const { pool, images } of batch.pages) {
    for (const { kind, number, data } of images) {
      const key = pageKey(pool, kind, number);
      if (data === undefined) state.pages.delete(key);
      else state.pages.set(key, data);
    }
  }
  for (const change of batch.rows) putRow(state, change);
}

function compareCells(a: Cell, b: Cell): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)));
}

function cloneBatch(batch: Batch): Batch {
  const copy = (data: Uint8Array | undefined) => (data ? Uint8Array.from(data) : undefined);
  return {
    pages: batch.pages.map(({ pool, images }) => ({
      pool,
      images: images.map((image) => ({ ...image, data: copy(image.data) })),
    })),
    rows: structuredClone(batch.rows),
  };
}

export class MemoryMetadata implements MetadataStore {
  readonly #durable: State;
  readonly #visible: State;
  readonly #pending: PendingCommit[] = [];
  readonly #failures: Error[] = [];
  #held = false;
  #ended: StorageError | undefined;
  /** Commits that were acknowledged. */
  commits = 0;
  /** Page images and row changes that were acknowledged. */
  changes = 0;

  constructor(state: State = { pages: new Map(), rows: new Map() }) {
    this.#durable = state;
    this.#visible = cloneState(state);
  }

  /** Commits that were called and not acknowledged. */
  get pending(): number {
    return this.#pending.length;
  }

  async readPages(
    pool: number,
    kind: PageKind,
    numbers: readonly number[],
  ): Promise<(Uint8Array | undefined)[]> {
    this.#checkAlive();
    const found = numbers.map((number) => this.#visible.pages.get(pageKey(pool, kind, number)));
    const copies = found.map((data) => (data === undefined ? undefined : Uint8Array.from(data)));
    return await Promise.resolve(copies);
  }

  async lastPage(pool: number, kind: PageKind): Promise<number> {
    this.#checkAlive();
    const numbers = [...this.#visible.pages.keys()]
      .filter((key) => key.startsWith(`${kind}/`))
      .map((key) => Number(key.slice(kind.length + 1)) - pageId(pool, 0))
      .filter((number) => number < 2 ** 40);
    return await Promise.resolve(numbers.reduce((a, b) => Math.max(a, b), -1));
  }

  async commit(batch: Batch): Promise<void> {
    this.#checkAlive();
    for (const change of batch.rows) checkRowChange(change);
    for (const { pool, images } of batch.pages) {
      for (const { number } of images) pageId(pool, number);
    }
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure;
    const mine = cloneBatch(batch);
    apply(this.#visible, mine);
    await new Promise<void>((resolve) => {
      this.#pending.push({ batch: mine, resolve });
      if (!this.#held) setImmediate(() => this.#held || this.settle(1));
    });
  }

  async rows(table: string, where: Row = {}): Promise<Row[]> {
    this.#checkAlive();
    checkWhere(table, where);
    const all = [...(this.#visible.rows.get(table)?.values() ?? [])];
    const wanted = Object.entries(where);
    const found = all.filter((row) =>
      wanted.every(([name, cell]) => compareCells(row[name] ?? null, cell) === 0),
    );
    const { key } = tableOf(table);
    found.sort((a, b) => {
      const orders = key.map(({ name }) => compareCells(a[name] ?? null, b[name] ?? null));
      return orders.find((order) => order !== 0) ?? 0;
    });
    return await Promise.resolve(structuredClone(found));
  }

  /** From now on commits are acknowledged only by `settle`. */
  hold(): void {
    this.#held = true;
  }

  /** Acknowledges what is pending, and again each commit by itself. */
  release(): void {
    this.#held = false;
    this.settle();
  }

  /** Makes the oldest `count` pending commits durable and acknowledges them. */
  settle(count = Infinity): void {
    if (this.#ended !== undefined) return;
    for (const { batch, resolve } of this.#pending.splice(0, count)) {
      apply(this.#durable, batch);
      this.commits += 1;
      this.changes += batch.pages.reduce((sum, { images }) => sum + images.length, 0);
      this.changes += batch.rows.length;
      resolve();
    }
  }

  /** The next commit fails with this error and changes nothing; called twice, the next two. */
  failNextCommit(error: Error): void {
    this.#failures.push(error);
  }

  /** Every call from now on fails with OWNER_LOST, as after a take-over. */
  loseOwnership(): void {
    this.#ended = new StorageError('OWNER_LOST', 'another process has taken over the store');
  }

  /**
   * What the next process finds. This store is dead afterwards: pending commits never settle.
   *
   * @param kept how many of the unacknowledged commits had become durable all the same
   */
  crash(kept = 0): MemoryMetadata {
    const state = cloneState(this.#durable);
    for (const { batch } of this.#pending.slice(0, kept)) apply(state, batch);
    this.#ended ??= new StorageError('INTERNAL', 'the store has crashed');
    return new MemoryMetadata(state);
  }

  #checkAlive(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }
}
