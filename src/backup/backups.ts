/**
 * The catalog of backups: what each one is, and who uses it. A cache of what is on the media.
 *
 * Invariants:
 *  1. A backup's row and its job's are committed together.
 *  2. A copy is a backup job's from the request on: it cannot be deleted under the job.
 *  3. A backup with users is not deleted.
 *  4. An entry is `complete` only while all bytes are on the medium: it is not from before the
 *     first is removed until a scan has found them all.
 */
import { type Clock, uuidv7 } from '../base/clock.ts';
import { isStorageError, StorageError } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import type { Copies } from '../copy/copies.ts';
import type { Copy } from '../copy/copy.ts';
import { freezeInternal } from '../copy/freeze.ts';
import { ImageFrame } from '../image/format.ts';
import { isEnd, type Job } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { checkBackupName } from '../target/target.ts';
import {
  type BackupRecord,
  type Labels,
  type TargetRecord,
  backupRow,
  readBackup,
} from './records.ts';
import type { RestoreRequest } from './restore-plan.ts';
import type { Targets } from './targets.ts';

export type JobMade = (job: Job) => readonly RowChange[];

export interface BackupRequest {
  readonly name: string;
  /** Exactly one of the two. */
  readonly copy?: string;
  readonly disk?: string;
  readonly target: string;
  readonly labels?: Labels;
  readonly maxBytesPerSecond?: number;
}

export interface BackupsOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly copies: Copies;
  readonly targets: Targets;
  readonly runner: () => JobRunner<RowChange>;
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
  /** Ends the use of a copy by a job. */
  readonly #copyUses = new Map<string, () => void>();
  /** One for each target: who takes entries in or out by what is on the medium. */
  readonly #matching = new Map<string, Mutex>();

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
    for (const job of this.options.runner().liveJobs()) {
      if (job.kind !== 'backup') continue;
      const copy = copies.byId(subjectText(job, 'copyId'));
      if (copy !== undefined) this.useCopy(copy, job.id);
    }
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

  list(): BackupRecord[] {
    return [...this.#backups.values()];
  }

  /** Ids of copies with a backup in any state: a scan may find whole what is incomplete now. */
  backedUpCopies(): ReadonlySet<string> {
    return new Set(this.list().map(({ copyId }) => copyId));
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
      ...(backup.job === null ? {} : { job: backup.job }),
    });
  }

  /**
   * Begins a backup; its job runs on. From a disk it is frozen now and the copy goes afterwards.
   * @throws NAME_TAKEN, NAME_INVALID, NOT_FOUND, VALIDATION_FAILED
   */
  async create(request: BackupRequest, effects?: JobMade): Promise<Job> {
    const { copies, targets } = this.options;
    checkBackupName(request.name);
    const target = targets.get(request.target);
    const there = this.find(request.name);
    if (there !== undefined) {
      throw new StorageError('NAME_TAKEN', `there is a backup ${request.name} already`, {
        name: there.name,
        id: there.id,
      });
    }
    if ((request.copy === undefined) === (request.disk === undefined)) {
      throw new StorageError('VALIDATION_FAILED', 'exactly one of copy and disk is needed', {
        field: 'copy',
      });
    }
    const id = uuidv7(this.options.clock);
    if (request.copy !== undefined) {
      return this.#submit(id, request, target, copies.get(request.copy), effects);
    }
    const copy = await freezeInternal(copies, request.disk ?? '', { backup: id });
    try {
      return await this.#submit(id, request, target, copy, effects);
    } catch (error) {
      copies.drop(copy);
      await copy.pool.flush();
      throw error;
    }
  }

  async #submit(
    id: string,
    request: BackupRequest,
    target: TargetRecord,
    copy: Copy,
    effects?: JobMade,
  ): Promise<Job> {
    const disk = this.options.copies.diskOf(copy);
    const record = this.#record(id, request, target, copy);
    const { imageBytes } = new ImageFrame(copy.facts).layout;
    this.#backups.set(id, record);
    // the copy is held before anyone can see the job
    const early = copy.addUser(this.#copyUser(`submit ${id}`));
    try {
      return await this.options.runner().submit(
        {
          kind: 'backup',
          subject: {
            backup: record.name,
            backupId: id,
            copy: copy.record.state === 'internal' ? '' : copy.name,
            copyId: copy.id,
            disk: copy.record.diskName,
            diskId: copy.record.diskId,
            target: target.name,
            targetId: target.id,
          },
          parameters: { backup: id },
          disk: disk ?? copy.record.diskName,
          target: target.name,
          labels: request.labels ?? {},
          totalBytes: imageBytes,
          ...(request.maxBytesPerSecond === undefined
            ? {}
            : { maxBytesPerSecond: request.maxBytesPerSecond }),
        },
        (job) => {
          record.job = job.id;
          this.useCopy(copy, job.id);
          return [backupRow(record), ...(effects?.(job) ?? [])];
        },
      );
    } catch (error) {
      this.#backups.delete(id);
      if (record.job !== null) this.endCopyUse(record.job);
      throw error;
    } finally {
      early();
    }
  }

  /** An entry that a scan found. */
  add(record: BackupRecord): void {
    this.#backups.set(record.id, record);
  }

  /** Runs alone among those who match entries of a target with its medium. */
  async matching<T>(targetId: string, body: () => Promise<T>): Promise<T> {
    const mutex = this.#matching.get(targetId) ?? new Mutex();
    this.#matching.set(targetId, mutex);
    return mutex.run(body);
  }

  /** Does nothing for an entry that is gone. */
  async save(record: BackupRecord): Promise<void> {
    if (this.#backups.get(record.id) !== record) return;
    await this.options.store.commit({ pages: [], rows: [backupRow(record)] });
  }

  /** Takes the entry away, not the bytes. */
  async forget(record: BackupRecord, rows: readonly RowChange[] = []): Promise<void> {
    const gone: RowChange = { table: 'backups', key: { id: record.id }, row: undefined };
    await this.options.store.commit({ pages: [], rows: [gone, ...rows] });
    this.#backups.delete(record.id);
    await this.options.copies.pruneCheckpoints();
  }

  /**
   * Marks the entry incomplete, removes the bytes, then the entry: a crash or failure between
   * leaves an incomplete entry that can be deleted again.
   * @throws NOT_FOUND, BACKUP_IN_USE, TARGET_UNAVAILABLE (nothing has changed)
   */
  async delete(ref: string, o: { force?: boolean } = {}): Promise<void> {
    const record = this.get(ref);
    await this.endUsers(record, o.force === true);
    await this.matching(record.targetId, async () => {
      if (this.#backups.get(record.id) !== record) return;
      const { targets } = this.options;
      const medium = targets.medium(targets.get(record.targetId));
      await medium.readManifest(record.mediumName).catch((error: unknown) => {
        if (isStorageError(error, 'TARGET_UNAVAILABLE')) throw error;
      });
      await this.endUsers(record, o.force === true);
      record.state = 'incomplete';
      await this.save(record);
      await medium.remove(record.mediumName).catch((error: unknown) => {
        if (!isStorageError(error, 'NOT_FOUND')) throw error;
      });
      await this.forget(record);
    });
  }

  /** @throws BACKUP_IN_USE with the jobs, unless they are cancelled by force */
  async endUsers(record: BackupRecord, force: boolean): Promise<void> {
    const users = this.usersOf(record);
    if (users.length === 0) return;
    if (!force) {
      throw new StorageError('BACKUP_IN_USE', `backup ${record.name} is in use`, {
        backup: record.name,
        users: users.map((id) => ({ kind: 'job', id })),
      });
    }
    for (const id of users) await this.endJob(id);
  }

  /** Cancels a job and waits for its end. */
  async endJob(id: string): Promise<void> {
    const runner = this.options.runner();
    await runner.cancel(id);
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

  /** A job reads the backup, until it ends. */
  use(record: BackupRecord, job: string): void {
    const users = this.#users.get(record.id) ?? new Set();
    users.add(job);
    this.#users.set(record.id, users);
  }

  /** A job uses a copy, until `endCopyUse`. Idempotent. */
  useCopy(copy: Copy, job: string): void {
    if (!this.#copyUses.has(job)) this.#copyUses.set(job, copy.addUser(this.#copyUser(job)));
  }

  endCopyUse(job: string): void {
    this.#copyUses.get(job)?.();
    this.#copyUses.delete(job);
  }

  #copyUser(job: string): Parameters<Copy['addUser']>[0] {
    return {
      kind: 'job',
      id: job,
      sinceMs: this.options.clock.nowMs(),
      abort: () => {
        if (this.#copyUses.has(job)) void this.options.runner().cancel(job);
      },
    };
  }

  #record(id: string, request: BackupRequest, target: TargetRecord, copy: Copy): BackupRecord {
    const frame = new ImageFrame(copy.facts);
    return {
      id,
      name: request.name,
      targetId: target.id,
      mediumName: request.name,
      imageId: frame.imageId,
      copyId: copy.id,
      copyName: copy.record.state === 'internal' ? '' : copy.name,
      diskId: copy.record.diskId,
      diskName: copy.record.diskName,
      generation: copy.record.generation,
      frozenAtMs: copy.record.frozenAtMs,
      level: 'full',
      state: 'creating',
      mediumBytes: 0,
      usedBytes: copy.usedBlocks * copy.blockSizeBytes,
      sourceCapacityBytes: copy.record.sourceCapacityBytes,
      blockSizeBytes: copy.blockSizeBytes,
      labels: request.labels ?? {},
      job: null,
      verifiedAtMs: null,
      version: 1,
      createdAtMs: this.options.clock.nowMs(),
    };
  }
}
