/**
 * Retention as the interface sees it: decisions at once, deletions as a job.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { Backups } from '../backup/backups.ts';
import {
  decide,
  planRetention,
  type RetentionRequest,
  submitRetention,
} from '../backup/retention-job.ts';
import type { Job } from '../job/job.ts';

export class RetentionService implements api.Retention {
  readonly #backups: Backups;

  constructor(backups: Backups) {
    this.#backups = backups;
  }

  decide(request: RetentionRequest): readonly api.RetentionDecision[] {
    const { targets } = this.#backups.options;
    const decisions = decide(this.#backups, planRetention(this.#backups, request));
    return decisions.map(({ item: { record }, action, reason }) => ({
      backup: record.name,
      backupId: record.id,
      diskName: record.diskName,
      diskId: record.diskId,
      target: targets.find(record.targetId)?.name ?? '',
      targetId: record.targetId,
      action,
      reason,
    }));
  }

  async start(request: RetentionRequest, effects?: Effects<Job>): Promise<Job> {
    return submitRetention(this.#backups, request, effects);
  }
}
