/**
 * Restores as they are asked for: from a live copy, from a backup, from an upload.
 */
import { StorageError } from '../base/errors.ts';
import { remap } from '../copy/remap.ts';
import type { Disk } from '../disk/disk.ts';
import type { Job } from '../job/job.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import { type Backups, type JobMade, subjectText } from './backups.ts';
import { submitRestore } from './submit-restore.ts';
import { disksOfJob, undoRestore } from './restore-target.ts';
import { assertQuota, assertRoom, planRestore, type RestoreRequest } from './restore-plan.ts';

export type CopyRestored = { readonly disk: Disk } | { readonly job: Job };

export class Restores {
  readonly backups: Backups;

  constructor(backups: Backups) {
    this.backups = backups;
  }

  /**
   * From a live copy: `remap` in its own pool answers the disk, no data moves; all else is a job.
   * @throws VALIDATION_FAILED (method copy), QUOTA_EXCEEDED, POOL_FULL, and as planRestore
   */
  async fromCopy(
    ref: string,
    request: RestoreRequest,
    effects?: (made: CopyRestored) => readonly RowChange[],
  ): Promise<CopyRestored> {
    const { copies } = this.backups.options;
    const copy = copies.get(ref);
    if (request.method === 'copy') {
      const message = 'a copy is restored by remap or write-back: it is a copy already';
      throw new StorageError('VALIDATION_FAILED', message, { field: 'method' });
    }
    copy.assertServed();
    await this.backups.endFencing(request);
    const source = { kind: 'copy' as const, id: copy.id };
    const plan = planRestore(copies, source, request, copy.pool.id);
    if (plan.method === 'remap' && plan.pool === copy.pool.id && copy.isWhole) {
      const disk = await remap(copies, copy, { disk: plan.object }, (made) => {
        return effects?.({ disk: made }) ?? [];
      });
      return { disk };
    }
    const usedBytes = copy.usedBlocks * copy.blockSizeBytes;
    assertQuota(copies, plan, usedBytes);
    if (plan.pool !== copy.pool.id || plan.method === 'remap') {
      assertRoom(copies, copies.options.pools.get(plan.pool), usedBytes);
    }
    const subject = { copy: copy.name, copyId: copy.id };
    const job = await submitRestore(this.backups, plan, request, { subject }, (made) => {
      this.backups.useCopy(copy, made.id);
      return effects?.({ job: made }) ?? [];
    });
    return { job };
  }

  /** @throws NOT_FOUND, BACKUP_INCOMPLETE, QUOTA_EXCEEDED, POOL_FULL, and as planRestore */
  async fromBackup(ref: string, request: RestoreRequest, effects?: JobMade): Promise<Job> {
    const { copies, targets } = this.backups.options;
    this.backups.readableChain(ref);
    await this.backups.endFencing(request);
    const chain = this.backups.readableChain(ref);
    const record = chain.at(-1) ?? chain[0];
    const plan = planRestore(copies, { kind: 'backup', id: record.id }, request);
    assertQuota(copies, plan, record.usedBytes);
    if (!plan.onlyDiffering) {
      assertRoom(copies, copies.options.pools.get(plan.pool), record.usedBytes);
    }
    const target = targets.get(record.targetId);
    const subject = {
      backup: record.name,
      backupId: record.id,
      target: target.name,
      targetId: target.id,
    };
    return submitRestore(this.backups, plan, request, { subject }, (job) => {
      this.backups.use(chain, job.id);
      return effects?.(job) ?? [];
    });
  }

  /** After the jobs were taken up: what a job no longer fills or fences is undone. */
  async settle(): Promise<void> {
    const { copies, runner } = this.backups.options;
    const live = runner().liveJobs();
    for (const job of live) {
      const copy = job.kind === 'restore' ? copies.byId(subjectText(job, 'copyId')) : undefined;
      if (copy !== undefined) this.backups.useCopy(copy, job.id);
    }
    const ids = new Set(live.map(({ id }) => id));
    for (const disk of copies.options.disks.list()) {
      const { job } = disk.record;
      if (job === null || ids.has(job) || disksOfJob(copies, job) === undefined) continue;
      await undoRestore(copies, job, false);
    }
  }
}
