/** Retention of the fakes: the real decisions over backups in memory, in their order. */
import type { Effects } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/work-services.ts';
import { decideRetention, keepsSomething, policyFrom } from '../../src/backup/retention.ts';
import { StorageError } from '../../src/base/errors.ts';
import { checkTimeZone } from '../../src/base/time-zone.ts';
import type { Job } from '../../src/job/job.ts';
import type { FakeBackup, FakeBackups, FakeTargets } from './fake-backups.ts';
import type { FakeJobs } from './fake-jobs.ts';

export class FakeRetention implements api.Retention {
  readonly #jobs: FakeJobs;
  readonly #targets: FakeTargets;
  readonly #backups: FakeBackups;

  constructor(jobs: FakeJobs, targets: FakeTargets, backups: FakeBackups) {
    this.#jobs = jobs;
    this.#targets = targets;
    this.#backups = backups;
  }

  decide(request: api.RetentionRequest): readonly api.RetentionDecision[] {
    return this.#decide(request).map(({ item: { backup: made }, action, reason }) => ({
      backup: made.name,
      backupId: made.id,
      diskName: made.diskName,
      diskId: made.diskId,
      target: made.target,
      targetId: made.targetId,
      action,
      reason,
    }));
  }

  async start(request: api.RetentionRequest, effects?: Effects<Job>): Promise<Job> {
    this.#decide(request);
    return this.#jobs.submit(
      {
        kind: 'retention',
        subject: {},
        work: async () => {
          const decisions = this.#decide(request);
          const going = decisions.filter(({ action }) => action === 'delete');
          for (const { item } of going) await this.#backups.delete(item.id, {});
          const deleted = going.map(({ item, reason }) => ({ backup: item.name, reason }));
          const keptBackups = decisions.length - going.length;
          return { deletedBackups: going.length, keptBackups, deleted, left: [] };
        },
      },
      effects,
    );
  }

  #decide(request: api.RetentionRequest) {
    const { target, disk, label, timeZone = 'UTC' } = request;
    const policy = policyFrom({ ...request });
    if (!keepsSomething(policy)) {
      throw new StorageError('VALIDATION_FAILED', 'no rule', { field: 'keepLast' });
    }
    checkTimeZone(timeZone);
    const targetId = target === undefined ? undefined : this.#targets.get(target).id;
    const isOf = (made: FakeBackup): boolean =>
      disk === undefined || [made.diskId, made.diskName].includes(disk);
    if (disk !== undefined && !this.#backups.list().some(isOf)) {
      throw new StorageError('NOT_FOUND', 'no disk', { disk });
    }
    const items = this.#backups.list().map((backup) => {
      const { id, name, diskId, targetId: on, copyId, createdAtMs: frozenAtMs, state } = backup;
      const { generation } = backup;
      const links = { baseCopyId: backup.base?.copyId ?? null, groupId: backup.group?.id ?? null };
      const facts = { id, name, diskId, targetId: on, copyId, frozenAtMs, state, ...links };
      return { ...facts, generation, backup };
    });
    return decideRetention(items, policy, timeZone, ({ backup }) => {
      if (targetId !== undefined && backup.targetId !== targetId) return false;
      if (!isOf(backup)) return false;
      if (label === undefined) return true;
      const value = backup.labels[label.key];
      return value !== undefined && (label.value === undefined || label.value === value);
    });
  }
}
