/**
 * The engine without API and database: pools, disks and copies over a given store and files.
 */
import { systemClock } from '../../src/base/clock.ts';
import { MIB } from '../../src/base/units.ts';
import { Copies } from '../../src/copy/copies.ts';
import { Disks } from '../../src/disk/disks.ts';
import { Generations } from '../../src/disk/generations.ts';
import { Names } from '../../src/disk/names.ts';
import type { BlockFileSystem } from '../../src/pool/block-file.ts';
import type { MetadataStore } from '../../src/pool/metadata-store.ts';
import { Pools } from '../../src/pool/pools.ts';

export interface Engine {
  readonly pools: Pools;
  readonly disks: Disks;
  readonly copies: Copies;
  /** Errors of background work. */
  readonly errors: unknown[];
  close(): Promise<void>;
}

/** Opens whatever the store and files hold. */
export async function openEngine(o: {
  store: MetadataStore;
  fileSystem: BlockFileSystem;
  storeId?: string;
  epoch?: number;
  cacheBytes?: number;
}): Promise<Engine> {
  const errors: unknown[] = [];
  const onError = (error: unknown): void => {
    errors.push(error);
  };
  const names = new Names();
  const generations = new Generations();
  const { store, fileSystem } = o;
  const clock = systemClock;
  const storeId = o.storeId ?? '00000000-0000-7000-8000-000000000001';
  const cacheBytes = o.cacheBytes ?? 2 * MIB;
  const epoch = o.epoch ?? 1;
  const pools = new Pools({ store, storeId, epoch, clock, fileSystem, cacheBytes });
  const disks = new Disks({ store, pools, names, generations, clock, onError });
  const copies = new Copies({ store, pools, disks, names, generations, clock, onError });
  await pools.open();
  await disks.open();
  await copies.open();
  return {
    pools,
    disks,
    copies,
    errors,
    async close() {
      await disks.stop();
      await copies.stop();
      await pools.close();
    },
  };
}
