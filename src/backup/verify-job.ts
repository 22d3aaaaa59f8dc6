/**
 * The job that proves every checksum of a backup. Damage ends it as failed, with the exact ranges:
 * never a success that hides a loss.
 *
 * Of an incremental its own image is proven, and that the rest of its chain is there and fits: the
 * others have to be verified by themselves. One of them that is missing, or was found damaged,
 * ends the job as failed, too; the state of the entry tells of its own image only. Whose image is
 * not there is not complete any more.
 */
import { StorageError } from '../base/errors.ts';
import type { VerifyResult } from '../image/verify.ts';
import { type Job, type Json, toJson } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups, JobMade } from './backups.ts';
import { reading } from './on-medium.ts';
import type { BackupRecord } from './records.ts';
import { parameter, reports } from './transfer.ts';
import { waitForTarget } from './target-wait.ts';
import { runOnTarget } from './target-task.ts';

/** @throws NOT_FOUND, BACKUP_INCOMPLETE */
export async function submitVerify(backups: Backups, ref: string, effects?: JobMade): Promise<Job> {
  const record = backups.readable(ref);
  const target = backups.options.targets.get(record.targetId);
  return backups.options.runner().submit(
    {
      kind: 'verify',
      subject: {
        backup: record.name,
        backupId: record.id,
        target: target.name,
        targetId: target.id,
      },
      parameters: { backup: record.id },
      disk: record.diskName,
      target: target.name,
      labels: record.labels,
      totalBytes: record.mediumBytes,
    },
    (job) => {
      backups.use(backups.chains().chainTo(record).members, job.id);
      return effects?.(job) ?? [];
    },
  );
}

export function verifyKind(backups: Backups): JobKind<RowChange> {
  return { run: (context) => runVerifyJob(backups, context) };
}

async function runVerifyJob(backups: Backups, context: JobContext<RowChange>): Promise<Json> {
  const { targets, clock } = backups.options;
  const record = backups.readable(parameter(context.job, 'backup'));
  const { members, missing } = backups.chains().chainTo(record);
  backups.use(members, context.job.id);
  const target = targets.get(record.targetId);
  const { progress } = reports(context);
  let found: VerifyResult | undefined;
  const verify = async (): Promise<void> => {
    const result = await runOnTarget(
      backups,
      context,
      target,
      {
        kind: 'verify',
        target: targets.place(target),
        name: record.mediumName,
        chain: missing === null ? members.map(({ mediumName }) => mediumName) : [],
      },
      { progress },
    );
    found = isVerifyResult(result) ? result : undefined;
  };
  await reading(backups, members, context.signal, () =>
    waitForTarget(context, targets, target, verify),
  );
  if (found === undefined) throw new StorageError('INTERNAL', 'the verify gave no result');
  // a scan may have found meanwhile that the image is gone
  backups.readable(record.id);
  record.state = found.ok ? 'complete' : 'damaged';
  record.verifiedAtMs = clock.nowMs();
  await backups.save(record);
  const { ok, blocks, bytes, damaged, problems, problemCount } = found;
  if (ok) {
    assertChain(backups, record);
    const chain = members.map(({ name }) => name);
    return { backup: record.name, ok, blocks, bytes, damaged: [], chain };
  }
  throw new StorageError('IMAGE_DAMAGED', `backup ${record.name} is damaged`, {
    backup: record.name,
    damaged: toJson(damaged),
    problems: toJson(problems.slice(0, 20)),
    problemCount,
  });
}

/** @throws BACKUP_INCOMPLETE, IMAGE_DAMAGED: a member that the backup needs */
function assertChain(backups: Backups, record: BackupRecord): void {
  const damaged = backups.readableChain(record.id).find(({ state }) => state === 'damaged');
  if (damaged === undefined) return;
  const message = `backup ${damaged.name}, which ${record.name} is built on, is damaged`;
  throw new StorageError('IMAGE_DAMAGED', message, {
    backup: record.name,
    damagedMember: damaged.name,
  });
}

function isVerifyResult(value: unknown): value is VerifyResult {
  return typeof value === 'object' && value !== null && 'problemCount' in value;
}
