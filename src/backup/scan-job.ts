/**
 * The job that rebuilds the catalog of a target from its medium: the medium is the truth.
 *
 * Backups that the catalog does not know are added, those that are gone from the medium leave the
 * catalog, those that came back are complete again, those whose bytes are not whole are shown as
 * such (backup/on-medium.ts). What a running job is making is left alone.
 * A listing is old as soon as it is made: each step looks at the medium again, and no deletion
 * comes between that look and what is done about it.
 */
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { type Job, type Json, toJson } from '../job/job.ts';
import type { JobContext } from '../job/job-run.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { MediumScan } from '../target/tape-media.ts';
import type { Target } from '../target/target.ts';
import { completed, parameter } from './transfer.ts';
import type { Backups, JobMade } from './backups.ts';
import type { ManifestFacts } from './manifest.ts';
import { lookFor, matchEntry } from './on-medium.ts';
import type { BackupRecord, BackupState, TargetRecord } from './records.ts';
import { waitForTarget } from './target-wait.ts';

interface ScanResult {
  readonly added: string[];
  readonly known: string[];
  readonly removed: string[];
  readonly incomplete: string[];
  /** Manifests that make no sense, images that are too short. */
  readonly unreadable: { readonly name: string; readonly reason: string }[];
  /** Cartridges that were read, of a target on tape. */
  readonly media: MediumScan[];
}

export async function submitScan(backups: Backups, ref: string, effects?: JobMade): Promise<Job> {
  const target = backups.options.targets.get(ref);
  return backups.options.runner().submit(
    {
      kind: 'scan',
      subject: { target: target.name, targetId: target.id },
      parameters: { target: target.id },
      target: target.name,
    },
    (job) => effects?.(job) ?? [],
  );
}

export function scanKind(backups: Backups): JobKind<RowChange> {
  return {
    async run(context): Promise<Json> {
      const { targets } = backups.options;
      const target = targets.get(parameter(context.job, 'target'));
      let result: ScanResult = newResult();
      await waitForTarget(context, targets, target, async () => {
        result = await scan(backups, context, target);
      });
      const { media, ...found } = result;
      return target.kind === 'directory' ? found : { ...found, media: toJson(media) };
    },
  };
}

function newResult(): ScanResult {
  return { added: [], known: [], removed: [], incomplete: [], unreadable: [], media: [] };
}

async function scan(
  backups: Backups,
  context: JobContext<RowChange>,
  target: TargetRecord,
): Promise<ScanResult> {
  const result = newResult();
  const { targets } = backups.options;
  const medium = targets.medium(target);
  if (target.kind !== 'directory') {
    const media = targets.media(target);
    const found = await targets.leases.visit(context, target, () => media.scan());
    result.media.push(found);
  }
  const seen = new Set<string>();
  /** Whole, but incomplete in the catalog, and what they are built on is not there yet. */
  const left = new Set<string>();
  const takeInAlone = (name: string): Promise<boolean> =>
    backups.matching(target.id, () => takeIn(backups, { target, medium, name, result }));
  for await (const entry of medium.list()) {
    context.signal.throwIfAborted();
    seen.add(entry.name);
    if (!(await takeInAlone(entry.name))) left.add(entry.name);
  }
  for (let before = Infinity; left.size < before;) {
    before = left.size;
    for (const name of left) if (await takeInAlone(name)) left.delete(name);
  }
  result.incomplete.push(...left);
  // what is on cartridges that were not scanned is not gone
  const mayForget = !medium.capabilities.appendOnly;
  for (const record of mayForget ? backups.list() : []) {
    if (record.targetId !== target.id || seen.has(record.mediumName)) continue;
    await backups.matching(target.id, () => missed(backups, medium, record, result));
  }
  return result;
}

/** The listing did not have it. One that nobody uses leaves the catalog if nothing is there. */
async function missed(
  backups: Backups,
  medium: Target,
  record: BackupRecord,
  result: ScanResult,
): Promise<void> {
  if (backups.find(record.id) !== record || record.state === 'creating') return;
  try {
    const { kind } = await matchEntry(backups, medium, record);
    if (kind === 'gone' && backups.usersOf(record).length === 0) {
      await backups.forget(record);
      result.removed.push(record.name);
    } else if (kind === 'gone' || kind === 'incomplete') {
      result.incomplete.push(record.mediumName);
    }
  } catch (error) {
    if (!(error instanceof StorageError) || error.code === 'TARGET_UNAVAILABLE') throw error;
  }
}

/**
 * False: its deletion was begun, and what it is built on is not there: it stays incomplete, unless
 * that comes in.
 */
async function takeIn(
  backups: Backups,
  o: { target: TargetRecord; medium: Target; name: string; result: ScanResult },
): Promise<boolean> {
  const { target, medium, name, result } = o;
  const entry = (): BackupRecord | undefined =>
    backups.list().find(({ targetId, mediumName }) => {
      return targetId === target.id && mediumName === name;
    });
  try {
    const before = entry();
    const found = await (before === undefined
      ? lookFor(medium, name)
      : matchEntry(backups, medium, before));
    if (found.kind === 'incomplete') result.incomplete.push(name);
    if (found.kind === 'incomplete' || found.kind === 'gone') return true;
    const { facts } = found;
    const state = found.kind === 'whole' ? 'complete' : 'damaged';
    const there = entry();
    if (there?.imageId === facts.imageId) {
      if (there.state === 'incomplete') {
        if (backups.chains().chainTo(there).missing !== null) return false;
        const to = { ...completed(facts), state } as const;
        await backups.saveTogether([{ record: there, to }]);
      }
      if (found.kind === 'whole') result.known.push(there.name);
    } else {
      if (there !== undefined) await backups.forget(there);
      const record = newEntry(backups, target, name, facts, state);
      await addEntry(backups, record);
      result.added.push(record.name);
    }
    if (found.kind === 'short') result.unreadable.push({ name, reason: found.reason });
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    if (error.code === 'TARGET_UNAVAILABLE') throw error;
    result.unreadable.push({ name, reason: error.message });
  }
  return true;
}

function newEntry(
  backups: Backups,
  target: TargetRecord,
  name: string,
  facts: ManifestFacts,
  state: BackupState,
): BackupRecord {
  return {
    ...facts,
    id: uuidv7(backups.options.clock),
    name: freeName(backups, name),
    targetId: target.id,
    mediumName: name,
    state,
    job: null,
    verifiedAtMs: null,
    version: 1,
  };
}

/** What cannot be made durable is not there. */
async function addEntry(backups: Backups, record: BackupRecord): Promise<void> {
  backups.add(record);
  try {
    await backups.save(record);
  } catch (error) {
    backups.drop(record);
    throw error;
  }
}

/** The name on the medium, or with a number behind it if another backup has that name. */
function freeName(backups: Backups, name: string): string {
  if (backups.find(name) === undefined) return name;
  for (let number = 2; ; number += 1) {
    const candidate = `${name.slice(0, 58)}-${number}`;
    if (backups.find(candidate) === undefined) return candidate;
  }
}
