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
  const sources = [new Source(), new Source(), new Source()] as const;
  const flushers = sources.map((source, pool) => new Flusher(store, pool, source));
  const [a, b, c] = flushers as [Flusher, Flusher, Flusher];
  /** For each batch, its pools and their page numbers. */
  const batches = (): string[] =>
    store.batches.map(({ pages }) =>
      pages
        .map(({ pool, images }) => `${pool}:${images.map((one) => one.number).join()}`)
        .join(' '),
    );
  return { store, sources, a, b, c, batches };
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
    expect(batches()).toEqual(['0:1 1:']);
  });

  it('takes another one in that shares a pool with it: neither is committed in part', async () => {
    const { store, sources, a, b, c, batches } = world();
    let release = (): void => undefined;
    sources[1].hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    sources[1].change(9);
    const busy = b.flush();
    await new Promise((resolve) => setImmediate(resolve));
    sources[0].change(1);
    sources[1].change(2);
    const first = new JointFlush(store, [a, b]).run();
    await new Promise((resolve) => setImmediate(resolve));
    sources[0].change(3);
    sources[2].change(4);
    const second = new JointFlush(store, [c, a], [effect]).run();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(batches()).toEqual([]);
    release();
    await Promise.all([busy, first, second]);
    expect(batches()).toEqual(['1:9', '0:1,3 1:2 2:4']);
    expect(store.batches[1]!.rows).toEqual([effect]);
  });

  it('joins two that were asked for apart when a third shares pools with both', async () => {
    const { store, sources, a, b, c, batches } = world();
    const d = new Flusher(store, 3, new Source());
    let release = (): void => undefined;
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    sources[0].hold = hold;
    sources[0].change(9);
    const busy = a.flush();
    sources[2].hold = hold;
    sources[2].change(8);
    const busyToo = c.flush();
    await new Promise((resolve) => setImmediate(resolve));
    const runs = [[a, b] as const, [c, d] as const, [b, d] as const].map((members) =>
      new JointFlush(store, members).run(),
    );
    sources[1].change(5);
    release();
    await Promise.all([busy, busyToo, ...runs]);
    expect(batches().length).toBe(3);
    expect(batches().at(-1)).toBe('0: 1:5 2: 3:');
  });

  it('undoes what cannot become durable as a whole before anyone goes on', async () => {
    const { store, sources, a, b, batches } = world();
    sources[0].change(1);
    sources[1].change(2);
    sources[0].syncFails = new StorageError('POOL_POISONED', 'the disk is gone');
    const undo = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      sources[1].pending = [];
    };
    const joint = new JointFlush(store, [a, b], [effect], undo).run();
    const waits = b.flush();
    await expect(joint).rejects.toThrow('the disk is gone');
    await waits;
    expect(batches()).toEqual([]);
  });

  it('poisons all if that cannot be undone', async () => {
    const { store, sources, a, b, batches } = world();
    sources[1].change(2);
    sources[0].syncFails = new StorageError('POOL_POISONED', 'the disk is gone');
    const undo = (): Promise<void> => Promise.reject(new Error('cannot'));
    const joint = new JointFlush(store, [a, b], [], undo).run();
    const waits = b.flush();
    await expect(joint).rejects.toThrow('the disk is gone');
    await expect(waits).rejects.toThrow('the disk is gone');
    expect([batches(), b.failure?.message]).toEqual([[], 'the disk is gone']);
  });

  it('is tried again without one that was taken in and failed', async () => {
    const { store, sources, a, b, c, batches } = world();
    sources[0].change(1);
    sources[1].change(2);
    sources[2].change(3);
    sources[2].syncFails = new StorageError('POOL_POISONED', 'the disk is gone');
    const good = new JointFlush(store, [a, b], [effect]).run();
    const bad = new JointFlush(store, [b, c], [], () => {
      sources[1].pending = sources[1].pending.filter(({ number }) => number !== 7);
      return Promise.resolve();
    }).run();
    sources[1].change(7);
    await expect(bad).rejects.toThrow('the disk is gone');
    await good;
    expect(batches()).toEqual(['0:1 1:2']);
    expect(store.batches[0]!.rows).toEqual([effect]);
    expect([a.failure, b.failure]).toEqual([undefined, undefined]);
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
