/**
 * Runs a worker's task on a target: on one with a drive under its lease, with cartridges asked for.
 */
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import type { Lease } from './drive-leases.ts';
import type { TargetRecord } from './records.ts';
import type { Handlers } from './worker-client.ts';
import { runTask } from './worker-client.ts';
import type { Task } from './worker-protocol.ts';

/** @throws what the task throws; what interrupted the job */
export async function runOnTarget(
  backups: Backups,
  context: JobContext<RowChange>,
  target: TargetRecord,
  task: Task,
  handlers: Handlers,
): Promise<unknown> {
  if (target.kind === 'directory') return runTask(task, handlers, context.signal);
  const { targets } = backups.options;
  const run = async (lease: Lease): Promise<unknown> => {
    const teller = targets.figures.teller(target.id);
    const { progress } = handlers;
    const ofDrive: Handlers = {
      ...handlers,
      medium: (needed) => lease.wait(needed),
      progress: (done, total, busy, flow) => {
        if (flow !== undefined) teller.told(flow);
        return progress?.(done, total, busy, flow);
      },
    };
    try {
      return await runTask(task, ofDrive, context.signal);
    } finally {
      teller.ended();
    }
  };
  return targets.leases.hold(context, target, run, targets.fetcher(target));
}
