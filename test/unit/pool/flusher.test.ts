import { describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { Flusher, type FlushSource } from '../../../src/pool/flusher.ts';
import type { PageImage, RowChange } from '../../../src/pool/metadata-store.ts';
import { turns } from '../../support/jumpy.ts';
import { MemoryMetadata } from '../../support/memory-metadata.ts';
import { effect, metadataFull, RecordingMetadata } from '../../support/rows.ts';

class Source implements FlushSource {
  pending: PageImage[] = [];
  freedBlocks: number[] = [];
  readonly released: number[] = [];
  readonly settled: PageImage[] = [];
  readonly order: string[] = [];
  syncFails: Error | undefined;

  change(number: number, byte: number): void {
    this.pending.push({ kind: 'node', number, data: new Uint8Array([byte]) });
  }

  takePages(): PageImage[] {
    this.order.push('take');
    return this.pending.splice(0);
  }

  settlePages(images: readonly PageImage[]): void {
    this.settled.push(...images);
  }

  restore(images: readonly PageImage[], freed: readonly number[]): void {
    this.pending.unshift(...images);
    this.freedBlocks.unshift(...freed);
  }

  takeFreed(): number[] {
    return this.freedBlocks.splice(0);
  }

  freed(blocks: readonly number[]): void {
    this.released.push(...blocks);
  }

  hasChanges(): boolean {
    return this.pending.length > 0;
  }

  async syncFiles(): Promise<void> {
    this.order.push('sync');
    if (this.syncFails !== undefined) throw this.syncFails;
  }
}

function deadRoot(node: number): RowChange {
  return {
    table: 'dead_roots',
    key: { pool: 'p', node },
    row: { height: 1, count: 1, mapped_blocks: 0 },
  };
}

function flusherOf(store = new MemoryMetadata()): {
  flusher: Flusher;
  source: Source;
  store: MemoryMetadata;
} {
  const source = new Source();
  return { flusher: new Flusher(store, 1, source), source, store };
}

describe('a flush', () => {
  it('takes the batch, then syncs the files, then commits exactly that batch', async () => {
    const { flusher, source, store } = flusherOf();
    source.change(1, 1);
    source.freedBlocks.push(7);
    store.hold();
    const flushed = flusher.flush([effect]);
    await turns(1);
    expect(source.order).toEqual(['take', 'sync']);
    source.change(1, 2);
    expect(source.released).toEqual([]);
    store.release();
    await flushed;
    expect(source.released).toEqual([7]);
    expect(await store.readPages(1, 'node', [1])).toEqual([new Uint8Array([1])]);
    expect(await store.rows('idempotency')).toHaveLength(1);
  });

  it('of nothing syncs the files and commits nothing', async () => {
    const { flusher, source, store } = flusherOf();
    await flusher.flush();
    expect([source.order, store.commits]).toEqual([['take', 'sync'], 0]);
  });

  it('is shared by all who ask in one turn; the next by all who ask while it runs', async () => {
    const { flusher, source, store } = flusherOf();
    source.change(1, 1);
    const first = [flusher.flush(), flusher.flush()];
    await turns(0);
    store.hold();
    await turns(1);
    source.change(2, 2);
    const second = [flusher.flush(), flusher.flush(), flusher.flush()];
    store.release();
    await Promise.all([...first, ...second]);
    expect(store.commits).toBe(2);
  });

  it('makes rows at the moment the batch is taken, each once', async () => {
    const { flusher, store } = flusherOf(new RecordingMetadata());
    flusher.changeRow('a', () => deadRoot(1));
    flusher.changeRow('a', () => deadRoot(2));
    flusher.changeRow('b', () => undefined);
    expect(flusher.isDirty).toBe(true);
    await flusher.flush();
    expect(flusher.isDirty).toBe(false);
    expect((await store.rows('dead_roots')).map(({ node }) => node)).toEqual([2]);
    await flusher.flush();
    expect(store.commits).toBe(1);
  });
});

describe('a flush that fails', () => {
  it('for want of room keeps everything but the rows of those who were told', async () => {
    const { flusher, source, store } = flusherOf();
    source.change(1, 1);
    source.freedBlocks.push(7);
    flusher.changeRow('a', () => deadRoot(1));
    flusher.addRow(deadRoot(2));
    store.failNextCommit(metadataFull());
    await expect(flusher.flush([effect])).rejects.toMatchObject({ code: 'METADATA_FULL' });
    expect(flusher.failure).toBeUndefined();
    expect(source.released).toEqual([]);
    expect(flusher.isDirty).toBe(true);
    await flusher.flush();
    expect(source.released).toEqual([7]);
    expect(await store.readPages(1, 'node', [1])).toEqual([new Uint8Array([1])]);
    expect((await store.rows('dead_roots')).map(({ node }) => node)).toEqual([1, 2]);
    expect(await store.rows('idempotency')).toEqual([]);
  });

  it('for want of room never brings an older row back', async () => {
    const { flusher, store } = flusherOf();
    store.failNextCommit(metadataFull());
    flusher.changeRow('a', () => deadRoot(1));
    const failed = flusher.flush();
    await Promise.resolve();
    await Promise.resolve();
    flusher.changeRow('a', () => deadRoot(3));
    await expect(failed).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await flusher.flush();
    expect((await store.rows('dead_roots')).map(({ node }) => node)).toEqual([3]);
  });

  it('for any other reason is the last: nothing is committed after it', async () => {
    const { flusher, source, store } = flusherOf();
    source.change(1, 1);
    source.syncFails = new Error('EIO');
    const both = await Promise.allSettled([flusher.flush(), flusher.flush()]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    source.syncFails = undefined;
    source.change(2, 2);
    await expect(flusher.flush()).rejects.toMatchObject({ code: 'POOL_POISONED' });
    expect(store.commits).toBe(0);
    expect(source.released).toEqual([]);
  });

  it('keeps the code of the first failure', async () => {
    const { flusher, source, store } = flusherOf();
    source.change(1, 1);
    store.failNextCommit(new StorageError('OWNER_LOST', 'made by the test'));
    await expect(flusher.flush()).rejects.toMatchObject({ code: 'OWNER_LOST' });
    await expect(flusher.flush()).rejects.toMatchObject({ code: 'OWNER_LOST' });
  });
});
