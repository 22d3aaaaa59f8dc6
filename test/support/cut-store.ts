/**
 * A metadata store whose commits count as steps of the same sequence as the I/O of the files, so
 * that one number cuts both. A commit that is cut may have become durable all the same.
 */
import type { Batch, MetadataStore, PageKind, Row } from '../../src/pool/metadata-store.ts';
import { CutError, type FaultyFileSystem } from './faulty-block-file.ts';
import { turns } from './jumpy.ts';
import { MemoryMetadata } from './memory-metadata.ts';

export class CutStore {
  readonly #files: FaultyFileSystem;
  #inner = new MemoryMetadata();

  constructor(files: FaultyFileSystem) {
    this.#files = files;
  }

  /** The store as one process has it: dead after the next crash. */
  open(): MetadataStore {
    return new Session(this.#inner, this.#files);
  }

  /** What the next process finds: every acknowledged commit and perhaps the one that was cut. */
  crash(): void {
    this.#inner = this.#inner.crash(this.#files.pick(this.#inner.pending + 1));
  }
}

class Session implements MetadataStore {
  readonly #inner: MemoryMetadata;
  readonly #files: FaultyFileSystem;
  #isCut = false;

  constructor(inner: MemoryMetadata, files: FaultyFileSystem) {
    this.#inner = inner;
    this.#files = files;
  }

  async commit(batch: Batch): Promise<void> {
    try {
      await this.#files.step('create');
    } catch (error) {
      if (!(error instanceof CutError) || this.#isCut) throw error;
      this.#isCut = true;
      this.#inner.hold();
      void this.#inner.commit(batch);
      throw error;
    }
    await this.#inner.commit(batch);
    if (this.#files.isCut) throw new CutError();
  }

  async readPages(
    pool: number,
    kind: PageKind,
    numbers: readonly number[],
  ): Promise<(Uint8Array | undefined)[]> {
    return this.#inner.readPages(pool, kind, numbers);
  }

  async lastPage(pool: number, kind: PageKind): Promise<number> {
    return this.#inner.lastPage(pool, kind);
  }

  async rows(table: string, where?: Row): Promise<Row[]> {
    return this.#inner.rows(table, where);
  }
}

/** Runs until the end or the cut; then nothing is waited for: a dead process answers nobody. */
export async function untilCut(
  files: FaultyFileSystem,
  body: () => Promise<void>,
): Promise<boolean> {
  let isDone = false;
  const cut = async (): Promise<void> => {
    while (!isDone && !files.isCut) await turns(1);
    await turns(5);
  };
  const work = async (): Promise<void> => {
    try {
      await body();
    } catch (error) {
      if (!files.isCut) throw error;
    } finally {
      isDone = true;
    }
  };
  await Promise.race([work(), cut()]);
  return files.isCut;
}
