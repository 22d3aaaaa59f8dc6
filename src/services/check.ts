/**
 * The check as the interface sees it: quick and bounded at once, or everything as a job.
 *
 * Quick: the structure of the database in part (all small tables, the newest pages), and every pool
 * that a failure has poisoned. The job: the whole structure.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { Job, Json } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { Meta } from '../meta/meta.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Pools } from '../pool/pools.ts';

export interface CheckServiceOptions {
  readonly meta: Meta;
  readonly pools: Pools;
  readonly runner: () => JobRunner<RowChange>;
}

export class CheckService implements api.Check {
  readonly #o: CheckServiceOptions;

  constructor(options: CheckServiceOptions) {
    this.#o = options;
  }

  async quick(): Promise<{ ok: boolean; findings: api.Finding[] }> {
    const lines = await this.#o.meta.check();
    const findings = [...lines.map(ofDatabase), ...this.#poisoned()];
    return { ok: findings.length === 0, findings };
  }

  async start(effects?: Effects<Job>): Promise<Job> {
    return this.#o.runner().submit({ kind: 'check', subject: {}, parameters: {} }, effects);
  }

  /** The job that checks everything. */
  get kind(): JobKind<RowChange> {
    return { run: () => this.#run() };
  }

  async #run(): Promise<Json> {
    const lines = await this.#o.meta.check({ deep: true });
    const findings = [...lines.map(ofDatabase), ...this.#poisoned()];
    return { ok: findings.length === 0, findings: findings.map((finding) => ({ ...finding })) };
  }

  #poisoned(): api.Finding[] {
    return this.#o.pools.list().flatMap(({ name, poison }) => {
      if (poison === undefined) return [];
      return [{ rule: 'POOL_POISONED', detail: `pool ${name}: ${poison.message}` }];
    });
  }
}

function ofDatabase(detail: string): api.Finding {
  return { rule: 'DATABASE', detail };
}
