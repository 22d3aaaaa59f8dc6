/**
 * The engine with a target of virtual cartridges, and hands that load what its jobs ask for.
 */
import { join } from 'node:path';
import { expect, onTestFinished, vi } from 'vitest';
import { beginBackup } from '../../src/backup/begin-backup.ts';
import type { BackupRequest } from '../../src/backup/begin-backup.ts';
import { KIB } from '../../src/base/units.ts';
import { isEnd } from '../../src/job/job.ts';
import type { Job } from '../../src/job/job.ts';
import { TargetService } from '../../src/services/targets.ts';
import { TapeCatalog } from '../../src/tape/catalog.ts';
import { makeFolder, openWork, removeFolder } from './work.ts';
import type { WorkBench } from './work.ts';

export const target = {
  name: 'vault',
  kind: 'virtual-tape',
  path: 'vault',
  set: 'nightly',
} as const;

export interface Served {
  readonly ended: Job;
  /** Labels in the order of asking; null for a new cartridge. */
  readonly asked: readonly (string | null)[];
}

export class TapeWork {
  readonly dir: string;
  bench: WorkBench;
  /** Labels that nobody finds: they are given up when they are asked for. */
  readonly lost = new Set<string>();

  private constructor(dir: string, bench: WorkBench) {
    this.dir = dir;
    this.bench = bench;
  }

  /** Until the end of the test. @param pool of its only one */
  static async make(pool: { readonly blockSizeBytes?: number } = {}): Promise<TapeWork> {
    const dir = await makeFolder();
    const work = new TapeWork(dir, await openWork(dir, pool));
    onTestFinished(async () => {
      expect(work.bench.errors).toEqual([]);
      await work.bench.close();
      await removeFolder(dir);
    });
    await work.bench.work.targets.create(target);
    return work;
  }

  get backups() {
    return this.bench.work.backups;
  }

  get service(): TargetService {
    return new TargetService(this.backups);
  }

  get media() {
    return this.service.media('vault');
  }

  get catalog(): TapeCatalog {
    const { id } = this.bench.work.targets.get('vault');
    return new TapeCatalog(join(this.dir, 'tape-catalogs', `${id}.jsonl`));
  }

  async addCartridges(sizeBytes: number, ...names: readonly string[]): Promise<void> {
    for (const name of names) await this.media.add(name, sizeBytes);
  }

  /** Loads a blank cartridge and labels it. */
  async label(cartridge: string, expiresAtMs?: number) {
    await this.media.load(cartridge);
    const expiry = expiresAtMs === undefined ? {} : { expiresAtMs };
    return this.media.label({ recordBytes: 64 * KIB, ...expiry });
  }

  /** Waits until a job waits for something, or has ended. */
  async needs(job: Job): Promise<Job> {
    return vi.waitFor(
      async () => {
        const now = await this.bench.runner.get(job.id);
        expect(now.state === 'waiting' || isEnd(now.state)).toBe(true);
        return now;
      },
      { timeout: 20_000, interval: 10 },
    );
  }

  /** Waits until a job waits for something with these facts. */
  async needsThis(job: Job, facts: Record<string, unknown>): Promise<void> {
    await vi.waitFor(
      async () => {
        expect((await this.bench.runner.get(job.id)).waitingFor).toMatchObject(facts);
      },
      { timeout: 20_000, interval: 10 },
    );
  }

  /** Loads what a job asks for, labels what is new. */
  async serve(job: Job): Promise<Served> {
    const asked: (string | null)[] = [];
    for (let now = await this.needs(job); !isEnd(now.state); now = await this.needs(job)) {
      expect(now.waitingFor).toMatchObject({ kind: 'medium', target: 'vault', set: 'nightly' });
      const label = now.waitingFor?.['label'] ?? null;
      asked.push(typeof label === 'string' ? label : null);
      if (typeof label !== 'string') {
        const blank = (await this.media.list()).find(({ state }) => state === 'unlabelled');
        const made = await this.label(blank?.cartridge ?? '');
        expect(now.waitingFor).toMatchObject({ volumeNumber: made.number });
      } else if (this.lost.has(label)) await this.media.forget(label, { force: true });
      else await this.media.load(label);
      await vi.waitFor(async () => {
        const { state, waitingFor: next } = await this.bench.runner.get(job.id);
        const isOther = next?.['label'] !== label;
        expect(state !== 'waiting' || isOther || label === null).toBe(true);
      });
    }
    return { ended: await this.bench.ended(job), asked };
  }

  async backUp(name: string, more: Partial<BackupRequest> = {}): Promise<Served> {
    const request = { name, target: 'vault', ...more };
    return this.serve(await beginBackup(this.backups, request));
  }
}
