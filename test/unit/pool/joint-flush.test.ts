import { describe, expect, it } from 'vitest';
import { StorageError } from '../../../src/base/errors.ts';
import { Flusher, type FlushSource } from '../../../src/pool/flusher.ts';
import { JointFlush } from '../../../src/pool/joint-flush.ts';
import type { PageImage } from '../../../src/pool/metadata-store.ts';
import { effect, metadataFull, RecordingMetadata } from '../../support/rows.ts';

class Source implements FlushSource {
  pending: PageImage[] = [];
  readonly settled: PageImage[] = [];
  readonly released: number[] = [];
  syncFails: Error | undefined;
  syncs = 0;
  /** Syncs wait for this. */
  hold: Promise<unknown> = Promise.resolve();

  change(number: number): void {
    this.pending.push({ kind: 'node', number, data: new Uint8Array([number]) });
  }

  takePages(): PageImage[] {
    return this.pending.splice(0);
  }

  settlePages(images: readonly PageImage[]): void {
    this.settled.push(...images);
  }

  restore(images: readonly PageImage[]): void {
    this.pending.unshift(...images);
  }

  takeFreed(): number[] {
    return [];
  }

  freed(blocks: readonly number[]): void {
    this.released.push(...blocks);
  }

  hasChanges(): boolean {
    return this.pending.length > 0;
  }

  async syncFiles(): Promise<void> {
    this.syncs += 1;
    await this.hold;
    if (this.syncFails !== undefined) throw this.syncFails;
  }
}

function world() {
  const store = new RecordingMetadata();
  const sources = [new Source(), new Source()] as const;
  const flushers = sources.map((source, pool) => new Flusher(store, pool, source));
  const [a, b] = flushers as [Flusher, Flusher];
  /** For each batch, its pools and their page numbers. */
  const batches = (): string[] =>
    store.batches.map(({ pages }) =>
      pages
        .map(({ pool, images }) => `${pool}:${images.map((one) => one.number).join()}`)
        .join(' '),
    );
  return { store, sources, a, b, batches };
}

describe('a flush of several pools', () => {
  it('is one transaction, with its rows and those of who waits at each of them', async () => {
    const { store, sources, a, b, batches } = world();
    sources[0].change(1);
    sources[1].change(2);
    const joint = new JointFlush(store, [a, b], [effect]).run();
    const own = a.flush();
    await Promise.all([joint, own]);
    expect(batches()).toEqual(['0:1 1:2']);
    expect(store.batches[0]!.rows).toEqual([effect]);
  });

  it('keeps each pool from committing a part of it, however busy one is', async () => {
    const { store, sources, a, b, batches } = world();
    let release = (): void => undefined;
    sources[1].hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    sources[1].change(9);
    const busy = b.flush();
    await new Promise((resolve) => setImmediate(resolve));
    sources[0].change(1);
    sources[1].change(2);
    const joint = new JointFlush(store, [a, b]).run();
    const eager = a.flush();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(batches()).toEqual([]);
    release();
    await Promise.all([busy, joint, eager]);
    expect(batches()).toEqual(['1:9', '0:1 1:2']);
  });

  it('two of them in opposite order do not wait for each other', async () => {
    const { store, sources, a, b, batches } = world();
    sources[0].change(1);
    const first = new JointFlush(store, [a, b]).run();
    const second = new JointFlush(store, [b, a]).run();
    await Promise.all([first, second]);
    expect(batches()).toEqual(['0:1 1:', '1: 0:']);
  });

  it('that meets a full database changes nothing and can be repeated', async () => {
    const { store, sources, a, b, batches } = world();
    sources[0].change(1);
    sources[1].change(2);
    const commit = store.commit.bind(store);
    store.commit = () => Promise.reject(metadataFull());
    await expect(new JointFlush(store, [a, b], [effect]).run()).rejects.toThrow('made by the test');
    store.commit = commit;
    await new JointFlush(store, [a, b]).run();
    expect(batches()).toEqual(['0:1 1:2']);
    expect(store.batches[0]!.rows).toEqual([]);
  });

  it('in which one pool fails poisons that one; the other goes on with its changes', async () => {
    const { store, sources, a, b, batches } = world();
    sources[0].change(1);
    sources[1].change(2);
    sources[0].syncFails = new StorageError('POOL_POISONED', 'the disk is gone');
    const joint = new JointFlush(store, [a, b], [effect]).run();
    const waits = b.flush();
    await expect(joint).rejects.toThrow('the disk is gone');
    await waits;
    expect(batches()).toEqual(['1:2']);
    expect([a.failure?.message, b.failure]).toEqual(['the disk is gone', undefined]);
    await expect(new JointFlush(store, [a, b]).run()).rejects.toThrow('the disk is gone');
  });
});
