/**
 * Runs a worker's task on a target: on one with a drive under its lease, with cartridges asked for.
 */
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
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
  return targets.leases.hold(
    context,
    target,
    (lease) =>
      runTask(task, { ...handlers, medium: (needed) => lease.wait(needed) }, context.signal),
    targets.fetcher(target),
  );
}
