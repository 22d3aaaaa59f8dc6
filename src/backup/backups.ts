/**
 * The catalog of backups: what each one is, and who uses it. A cache of what is on the media.
 *
 * Invariants:
 *  1. A backup's row and its job's are committed together.
 *  2. A copy is a backup job's from the request on: it cannot be deleted under the job.
 *  3. An entry is `complete` only while all bytes are on the medium: it is not from before the
 *     first is removed until a scan has found them all. What others remove is noted when a scan
 *     or a reader misses it.
 */
import type { Clock } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { assertNone, jobAsUser } from '../disk/users.ts';
import { isEnd, type Job } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { Chains } from './chains.ts';
import { type BackupRecord, backupRow, readBackup } from './records.ts';
import { useMembersAgain } from './group-members.ts';
import type { RestoreRequest } from './restore-plan.ts';
import type { Targets } from './targets.ts';

export type JobMade = (job: Job) => readonly RowChange[];

export interface BackupsOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly copies: Copies;
  readonly targets: Targets;
  readonly runner: () => JobRunner<RowChange>;
  /** Errors that no caller gets. */
  readonly onError: (error: unknown) => void;
}

/** Cancels a job that nobody waits for; what has ended, or goes on in the next life, is none. */
export function cancelAlone(
  runner: JobRunner<RowChange>,
  job: string,
  onError: (error: unknown) => void,
): void {
  runner.cancel(job).catch((error: unknown) => {
    const isLate = isStorageError(error, 'NOT_FOUND') || isStorageError(error, 'SHUTTING_DOWN');
    if (!isLate) onError(error);
  });
}

/** A text of the job's subject, or an empty one. */
export function subjectText(job: Job, name: string): string {
  const value = job.subject[name];
  return typeof value === 'string' ? value : '';
}

export class Backups {
  readonly options: BackupsOptions;
  readonly #backups = new Map<string, BackupRecord>();
  /** Jobs that use a backup. */
  readonly #users = new Map<string, Set<string>>();
  /** By job, then by copy: what ends the use. */
  readonly #copyUses = new Map<string, Map<string, () => void>>();
  /** One for each target: who takes entries in or out by what is on the medium. */
  readonly #matching = new Map<string, Mutex>();
  #chains: Chains<BackupRecord> | undefined;

  constructor(options: BackupsOptions) {
    this.options = options;
    options.copies.onBackedUp(() => this.backedUpCopies());
  }

  async open(): Promise<void> {
    for (const row of await this.options.store.rows('backups')) {
      const record = readBackup(row);
      this.#backups.set(record.id, record);
    }
  }

  /** After the jobs were taken up: what they use is theirs again, what nobody uses goes. */
  async settle(): Promise<void> {
    const { copies } = this.options;
    for (const job of this.options.runner().liveJobs()) this.#useAgain(job);
    for (const copy of copies.internal()) {
      const backup = copy.record.labels['backup'];
      if (backup === undefined || copy.users().length > 0) continue;
      copies.drop(copy);
      await copy.pool.flush();
    }
    const live = new Set(
      this.options
        .runner()
        .liveJobs()
        .map(({ id }) => id),
    );
    for (const record of this.list()) {
      if (record.state !== 'creating' || (record.job !== null && live.has(record.job))) continue;
      record.state = 'incomplete';
      await this.save(record);
    }
    await copies.pruneCheckpoints();
  }

  #useAgain(job: Job): void {
    if (job.kind === 'group-backup') useMembersAgain(this, job);
    const copy = this.options.copies.byId(subjectText(job, 'copyId'));
    if (job.kind === 'backup' && copy !== undefined) this.useCopy(copy, job.id);
    const read = this.find(subjectText(job, job.kind === 'consolidate' ? 'fromId' : 'backupId'));
    if (job.kind === 'backup' || read === undefined) return;
    this.use(this.chains().chainTo(read).members, job.id);
  }

  list(): BackupRecord[] {
    return [...this.#backups.values()];
  }

  /** Ids of copies with a backup in any state: a scan may find whole what is incomplete now. */
  backedUpCopies(): ReadonlySet<string> {
    return new Set(this.list().map(({ copyId }) => copyId));
  }

  /** What is there of a group backup, in the order of its members; empty: there is none. */
  ofGroup(ref: string): BackupRecord[] {
    const found = this.list().filter(({ group }) => group?.id === ref || group?.name === ref);
    const newest = found.at(-1);
    const order = (record: BackupRecord): number =>
      record.group?.members.findIndex(({ imageId }) => imageId === record.imageId) ?? 0;
    return found
      .filter(({ group }) => group?.id === newest?.group?.id)
      .filter(({ targetId }) => targetId === newest?.targetId)
      .sort((a, b) => order(a) - order(b));
  }

  find(ref: string): BackupRecord | undefined {
    return this.#backups.get(ref) ?? this.list().find((backup) => backup.name === ref);
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): BackupRecord {
    const backup = this.find(ref);
    if (backup === undefined) {
      throw new StorageError('NOT_FOUND', `there is no backup ${ref}`, { backup: ref });
    }
    return backup;
  }

  /** One that can be read. @throws NOT_FOUND, BACKUP_INCOMPLETE */
  readable(ref: string): BackupRecord {
    const backup = this.get(ref);
    if (backup.state === 'complete' || backup.state === 'damaged') return backup;
    throw new StorageError('BACKUP_INCOMPLETE', `backup ${backup.name} is ${backup.state}`, {
      backup: backup.name,
      state: backup.state,
      ...(backup.job === null ? {} : { job: backup.job }),
    });
  }

  /**
   * What has to be read to restore one: a full backup, then each that is built on the one before.
   * @throws NOT_FOUND, BACKUP_INCOMPLETE (with `missing`: the copy whose backup is not there)
   */
  readableChain(ref: string): readonly [BackupRecord, ...BackupRecord[]] {
    const backup = this.readable(ref);
    const { members, missing } = this.chains().chainTo(backup);
    const [oldest, ...others] = members;
    if (missing === null && oldest !== undefined) return [oldest, ...others];
    throw new StorageError(
      'BACKUP_INCOMPLETE',
      `what backup ${backup.name} is built on is not on its target`,
      { backup: backup.name, missing },
    );
  }

  /** What is built on what, now. Cost: n log n after a change. */
  chains(): Chains<BackupRecord> {
    this.#chains ??= new Chains(this.#backups.values());
    return this.#chains;
  }

  /** A new entry; the caller makes it durable. */
  add(record: BackupRecord): void {
    this.#backups.set(record.id, record);
    this.#chains = undefined;
  }

  /** Takes an entry out of memory: it did not become durable, or is gone. */
  drop(record: BackupRecord): void {
    this.#backups.delete(record.id);
    this.#chains = undefined;
  }

  /** Runs alone among those who match entries of a target with its medium. */
  async matching<T>(targetId: string, body: () => Promise<T>): Promise<T> {
    const mutex = this.#matching.get(targetId) ?? new Mutex();
    this.#matching.set(targetId, mutex);
    return mutex.run(body);
  }

  /** After each change of an entry, in the same turn. Does nothing for one that is gone. */
  async save(record: BackupRecord): Promise<void> {
    this.#chains = undefined;
    if (this.#backups.get(record.id) !== record) return;
    await this.options.store.commit({ pages: [], rows: [backupRow(record)] });
  }

  /** Changes several entries in one transaction; seen when they are durable. */
  async saveTogether(
    changed: readonly { readonly record: BackupRecord; readonly to: Partial<BackupRecord> }[],
  ): Promise<void> {
    const there = changed.filter(({ record }) => this.#backups.get(record.id) === record);
    const rows = there.map(({ record, to }) => backupRow({ ...record, ...to }));
    await this.options.store.commit({ pages: [], rows });
    for (const { record, to } of there) Object.assign(record, to);
    this.#chains = undefined;
  }

  /** Takes entries away, not their bytes. */
  async forget(...records: readonly BackupRecord[]): Promise<void> {
    const rows = records.map(({ id }): RowChange => {
      return { table: 'backups', key: { id }, row: undefined };
    });
    await this.options.store.commit({ pages: [], rows });
    for (const record of records) this.drop(record);
    await this.options.copies.pruneCheckpoints();
  }

  /** @throws BACKUP_IN_USE with the jobs, unless they are cancelled by force */
  async endUsers(record: BackupRecord, force: boolean): Promise<void> {
    if (!force) this.assertUnused(record);
    for (const id of this.usersOf(record)) await this.endJob(id);
  }

  /** @throws BACKUP_IN_USE with the jobs */
  assertUnused(record: BackupRecord): void {
    const users = this.usersOf(record).map((id) => jobAsUser(id, record.createdAtMs));
    const details = { backup: record.name };
    assertNone(users, 'BACKUP_IN_USE', `backup ${record.name} is in use`, details);
  }

  /**
   * Cancels a job and waits for its end.
   * @throws NOT_FOUND, METADATA_FULL; SHUTTING_DOWN: it goes on in the next life
   */
  async endJob(id: string): Promise<void> {
    const runner = this.options.runner();
    // asked for each time: a runner that shuts down makes nobody wait, and refuses this
    do await runner.cancel(id);
    while (!isEnd((await runner.wait(id, 1000)).state));
  }

  /** By force: the restore that fences the working disk ends first. */
  async endFencing(request: RestoreRequest): Promise<void> {
    if (request.method !== 'write-back' || request.force !== true) return;
    const disk = this.options.copies.options.disks.find(request.disk ?? '');
    // a disk that a restore is still making would go with it
    if (disk?.state !== 'fenced' || disk.record.job === null) return;
    await this.endJob(disk.record.job);
  }

  /** Live jobs that make or read the backup. */
  usersOf(record: BackupRecord): string[] {
    const live = new Set(
      this.options
        .runner()
        .liveJobs()
        .map(({ id }) => id),
    );
    const users = [...(this.#users.get(record.id) ?? [])].filter((id) => live.has(id));
    if (record.state === 'creating' && record.job !== null && live.has(record.job)) {
      users.push(record.job);
    }
    return users;
  }

  /** A job reads the backups, until it ends. Idempotent. */
  use(records: readonly BackupRecord[], job: string): void {
    for (const { id } of records) {
      const users = this.#users.get(id) ?? new Set();
      users.add(job);
      this.#users.set(id, users);
    }
  }

  /** A job has ended. */
  endUses(job: string): void {
    this.endCopyUse(job);
    for (const [id, users] of this.#users) {
      if (users.delete(job) && users.size === 0) this.#users.delete(id);
    }
  }

  /** A job uses a copy, until `endCopyUse`. Idempotent. */
  useCopy(copy: Copy, job: string): void {
    const uses = this.#copyUses.get(job) ?? new Map<string, () => void>();
    this.#copyUses.set(job, uses);
    if (!uses.has(copy.id)) uses.set(copy.id, copy.addUser(this.copyUser(job)));
  }

  /** The job uses no copy any more. */
  endCopyUse(job: string): void {
    for (const end of this.#copyUses.get(job)?.values() ?? []) end();
    this.#copyUses.delete(job);
  }

  /** The job as a user of a copy, which ends it by force. */
  copyUser(job: string): Parameters<Copy['addUser']>[0] {
    return {
      kind: 'job',
      id: job,
      sinceMs: this.options.clock.nowMs(),
      abort: () => {
        const { runner, onError } = this.options;
        if (this.#copyUses.has(job)) cancelAlone(runner(), job, onError);
      },
    };
  }
}
