/**
 * A small engine for unit tests: one pool of 16 KiB blocks over files and metadata in memory.
 */
import { expect } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import type { DiskRequest } from '../../src/disk/disks.ts';
import type { Disk } from '../../src/disk/disk.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { checkEngine } from './check-engine.ts';
import { type Engine, openEngine } from './engine.ts';
import { HeldFiles } from './held-files.ts';
import { MemoryMetadata } from './memory-metadata.ts';

export const SIZE = 16 * KIB;

export interface SmallEngine {
  engine: Engine;
  readonly store: MemoryMetadata;
  readonly files: HeldFiles;
  readonly pool: Pool;
  disk(o?: Partial<DiskRequest>): Promise<Disk>;
  /** Closes the engine and opens it again over the same store and files. */
  reopen(): Promise<Engine>;
  /** Nothing is given back any more, nothing held, no lock taken, and the tables are sound. */
  rest(): Promise<void>;
}

export async function smallEngine(
  o: { blocks?: number; cacheBytes?: number; store?: MemoryMetadata } = {},
): Promise<SmallEngine> {
  const { blocks = 64, cacheBytes = 2 * MIB, store = new MemoryMetadata() } = o;
  const files = new HeldFiles();
  const engine = await openEngine({ store, fileSystem: files, cacheBytes });
  const { pool } = await engine.pools.create({
    name: 'p',
    blockSizeBytes: SIZE,
    files: [{ path: '/p', sizeBytes: MIB + blocks * SIZE }],
  });
  let epoch = 1;
  const small: SmallEngine = {
    engine,
    store,
    files,
    pool,
    async disk(request = {}) {
      const { disks } = small.engine;
      const wanted = { name: 'd', capacityBytes: 100 * SIZE, ...request };
      return (await disks.create(wanted)).disk;
    },
    async reopen() {
      await small.engine.close();
      epoch += 1;
      small.engine = await openEngine({ store, fileSystem: files, epoch, cacheBytes });
      return small.engine;
    },
    async rest() {
      await restOf(small.engine);
      expect(await checkEngine(small.engine, store)).toEqual([]);
      expect(small.engine.errors).toEqual([]);
    },
  };
  return small;
}

/** Waits until nothing is given back any more; then nothing may be held or locked. */
export async function restOf(engine: Engine): Promise<void> {
  for (const pool of engine.pools.list()) {
    const reclaimer = engine.disks.reclaimer(pool);
    while (await reclaimer.step()) await pool.throttle();
    await pool.flush();
    await pool.epochs.barrier();
    expect(pool.allocator.heldBlocks).toBe(0);
  }
  for (const disk of engine.disks.list()) {
    expect(disk.lock.isIdle && disk.gate.inside === 0 && disk.gate.isOpen).toBe(true);
  }
}

export async function readAll(
  source: { read(offset: number, into: Uint8Array): Promise<void> },
  offset: number,
  length: number,
): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee);
  await source.read(offset, into);
  return into;
}
