/**
 * Targets, backups, restores, jobs and the check as the routes need them.
 */
import type { StorageError } from '../base/errors.ts';
import type { Job } from '../job/job.ts';
import type { JobFilter, JobPage } from '../job/runner.ts';
import type { TapeMedia } from '../target/tape-media.ts';
import type { DriveView } from './drive-metrics.ts';
import type { Effects, ForceOption, Labels, Rename, UploadBody } from './service-types.ts';
import type { Copy, Disk } from './storage-services.ts';

export type { DriveView } from './drive-metrics.ts';
export type { Medium } from '../target/tape-media.ts';
export type { LibraryView } from '../target/medium-place.ts';

/** What hands do. @throws TARGET_IN_USE while a job has the drive and does not wait for a medium */
export type Media = Pick<
  TapeMedia,
  'list' | 'get' | 'add' | 'load' | 'unload' | 'label' | 'forget' | 'export' | 'import' | 'library'
>;

export type TargetKind = 'directory' | 'tape' | 'virtual-tape';

export interface Target {
  readonly id: string;
  readonly name: string;
  readonly kind: TargetKind;
  readonly path: string;
  /** Of its cartridges; null of a directory. */
  readonly set: string | null;
  /** Memory between the source and its drive; null of a directory. */
  readonly bufferBytes: number | null;
  readonly changer: { readonly device: string; readonly drive: number } | null;
  readonly labels: Labels;
  readonly version: number;
  readonly createdAtMs: number;
}

export interface CreateTarget {
  readonly name: string;
  readonly kind: TargetKind;
  readonly path: string;
  readonly set?: string;
  readonly bufferBytes?: number;
  readonly changer?: string;
  readonly changerDrive?: number;
  readonly labels?: Labels;
}

/** What can be changed of a target. */
export interface TargetChange extends Rename {
  readonly bufferBytes?: number;
}

export interface TargetMade {
  readonly target: Target;
  readonly created: boolean;
}

export interface Targets {
  create(request: CreateTarget, effects?: Effects<Target>): Promise<TargetMade>;
  get(ref: string): Target;
  list(): readonly Target[];
  /** @throws VALIDATION_FAILED: the buffer of a directory, or one of no size for it */
  update(ref: string, change: TargetChange): Promise<Target>;
  /** Of each target that has one. */
  drives(): readonly DriveView[];
  /** Forgets the target and its backups' entries; the medium is left as it is. */
  delete(ref: string, options: ForceOption): Promise<void>;
  /** Rebuilds the catalog from the medium. */
  scan(ref: string, effects?: Effects<Job>): Promise<Job>;
  /** Its cartridges. @throws NOT_FOUND; VALIDATION_FAILED: it has none */
  media(ref: string): Media;
}

export type BackupLevel = 'full' | 'incremental';

export interface BackupBase {
  readonly copyId: string;
  readonly generation: number;
  readonly backup: string | null;
}

export interface Backup {
  readonly id: string;
  readonly name: string;
  readonly target: string;
  readonly targetId: string;
  readonly imageId: string;
  /** Name of the copy now, null if it is gone. */
  readonly copy: string | null;
  readonly copyId: string;
  /** Null: it was frozen for the backup alone. */
  readonly copyName: string | null;
  readonly disk: string | null;
  readonly diskId: string;
  readonly diskName: string;
  readonly level: BackupLevel;
  /** Null: full. `backup` is the name of the backup that serves as the base now, null if none. */
  readonly base: BackupBase | null;
  /** Oldest first, the full one; this one is the last. */
  readonly chain: readonly { readonly id: string; readonly name: string }[];
  /** False: what the first of the chain is built on is not there. */
  readonly isChainComplete: boolean;
  readonly state: 'creating' | 'complete' | 'incomplete' | 'damaged';
  readonly mediumBytes: number;
  /** Used blocks of the copy, and those of them that are in this image. */
  readonly usedBytes: number;
  readonly dataBytes: number;
  readonly sourceCapacityBytes: number;
  readonly blockSizeBytes: number;
  readonly labels: Labels;
  /** The group backup that it is a part of; absent: it was made by itself. */
  readonly group?: { readonly id: string; readonly name: string };
  /** Id of the job that made it, null if it was found by a scan. */
  readonly job: string | null;
  readonly verifiedAtMs: number | null;
  readonly version: number;
  readonly createdAtMs: number;
}

/** Exactly one of `copy`, `disk` and `group`. */
export interface CreateBackup {
  /** Of a group: the backups are called NAME-DISK. */
  readonly name: string;
  readonly copy?: string;
  readonly disk?: string;
  readonly group?: string;
  readonly target: string;
  readonly level?: BackupLevel;
  /** Of an incremental: a backup or a copy. */
  readonly base?: string;
  readonly onMissingBase?: 'fail' | 'full';
  readonly labels?: Labels;
  readonly maxBytesPerSecond?: number;
}

export interface Consolidate {
  /** Of the new backup. */
  readonly name: string;
  readonly labels?: Labels;
  readonly maxBytesPerSecond?: number;
}

export interface BackupDeletion extends ForceOption {
  /** Takes along what is built on it. */
  readonly cascade?: boolean;
}

export interface Backups {
  /** True if it is a group backup of which backups are there, and no backup by itself. */
  hasGroup(ref: string): boolean;
  /** What a restore of the group backup takes, in the order of its members; empty: none there. */
  ofGroup(ref: string): readonly Backup[];
  /** @throws BASE_MISSING … */
  create(request: CreateBackup, effects?: Effects<Job>): Promise<Job>;
  get(ref: string): Backup;
  list(): readonly Backup[];
  /** What `delete` would take away, in this order. @throws as it would */
  deletion(ref: string, options: BackupDeletion): readonly Backup[];
  /** @throws NOT_FOUND, BACKUP_NEEDED, BACKUP_IN_USE, TARGET_UNAVAILABLE */
  delete(ref: string, options: BackupDeletion): Promise<void>;
  verify(ref: string, effects?: Effects<Job>): Promise<Job>;
  /** A full backup from a chain. @throws NOT_FOUND, BACKUP_INCOMPLETE, NAME_TAKEN */
  consolidate(ref: string, request: Consolidate, effects?: Effects<Job>): Promise<Job>;
}

export type RestoreMethod = 'copy' | 'remap' | 'write-back';

/** `disk` names the new disk (remap) or the working disk (write-back), `copy` the new copy. */
export interface RestoreRequest {
  readonly method: RestoreMethod;
  readonly disk?: string;
  readonly copy?: string;
  readonly pool?: string;
  /** Name of the copy that keeps what was on the disk before a write-back. */
  readonly safetyCopy?: string;
  readonly onlyDiffering?: boolean;
  readonly onDamage?: 'fail' | 'skip';
  readonly keepPartial?: boolean;
  readonly force?: boolean;
  readonly maxBytesPerSecond?: number;
}

/** A remap from a live copy is done at once and answers the disk; all else is a job. */
export type CopyRestored = { readonly disk: Disk } | { readonly job: Job };

/** Where the disks of a group go; unless told, to new disks NAME-DISK or to their sources. */
export interface GroupRestoreRequest {
  readonly method: 'remap' | 'write-back';
  readonly name?: string;
  readonly disks?: readonly { readonly disk: string; readonly to: string }[];
  readonly pool?: string;
  /** What was on the disks before a write-back stays as SAFETYCOPY-DISK. */
  readonly safetyCopy?: string;
  readonly onlyDiffering?: boolean;
  readonly onDamage?: 'fail' | 'skip';
  readonly force?: boolean;
  readonly maxBytesPerSecond?: number;
}

/** A remap from live copies is done at once, all disks or none; all else is a job. */
export type GroupRestored = { readonly disks: readonly Disk[] } | { readonly job: Job };

/** `disk` or `copy` is what was made; neither after a write-back. */
export interface UploadResult {
  readonly job: Job;
  readonly disk?: Disk;
  readonly copy?: Copy;
}

/** An image on its way in. Calls follow each other, each awaited. */
export interface UploadSession {
  readonly job: Job;
  /** Bytes of the image that were taken so far, those of earlier requests included. */
  readonly receivedBytes: number;
  /** Takes the chunk over; resolves when there is room for more. */
  push(chunk: Uint8Array): Promise<void>;
  /** All bytes came: resolves when the result is durable. @throws IMAGE_TRUNCATED … */
  finish(effects?: Effects<UploadResult>): Promise<UploadResult>;
  /**
   * Ends the request. BODY_TRUNCATED and SHUTTING_DOWN keep the job for `continueUpload`, what is
   * received made durable; other reasons fail the job with their code, unless it has ended or was
   * paused. Idempotent, never throws.
   */
  abort(reason: StorageError): Promise<void>;
}

export interface Restores {
  fromCopy(
    copyRef: string,
    request: RestoreRequest,
    effects?: Effects<CopyRestored>,
  ): Promise<CopyRestored>;
  fromBackup(backupRef: string, request: RestoreRequest, effects?: Effects<Job>): Promise<Job>;
  /** @throws NOT_FOUND, NAME_TAKEN, POOL_MISMATCH, DISK_IN_USE … */
  fromGroup(
    groupRef: string,
    request: GroupRestoreRequest,
    effects?: Effects<GroupRestored>,
  ): Promise<GroupRestored>;
  /** @throws BACKUP_INCOMPLETE with `missing` if not all members are there … */
  fromGroupBackup(ref: string, request: GroupRestoreRequest, effects?: Effects<Job>): Promise<Job>;
  /** With the key of a live upload that one is ended first. @throws POOL_FULL, DISK_IN_USE … */
  beginUpload(request: RestoreRequest, body: UploadBody): Promise<UploadSession>;
  /** @throws NOT_FOUND, JOB_STATE, RANGE_INVALID with `receivedBytes` if it is another offset */
  continueUpload(jobId: string, fromByte: number): Promise<UploadSession>;
}

/** Rules that keep backups; with none of them above 0 it is refused. */
export interface RetentionPolicy {
  readonly keepLast?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
}

/** Which backups it is about, and what stays of them. */
export interface RetentionRequest extends RetentionPolicy {
  readonly target?: string;
  readonly disk?: string;
  readonly label?: { readonly key: string; readonly value?: string };
  /** Default UTC. */
  readonly timeZone?: string;
}

export interface RetentionDecision {
  readonly backup: string;
  readonly backupId: string;
  readonly diskName: string;
  readonly diskId: string;
  readonly target: string;
  readonly targetId: string;
  readonly action: 'keep' | 'delete';
  readonly reason: string;
}

export interface Retention {
  /** @throws VALIDATION_FAILED (no rule, no such time zone), NOT_FOUND (target, disk) */
  decide(request: RetentionRequest): readonly RetentionDecision[];
  start(request: RetentionRequest, effects?: Effects<Job>): Promise<Job>;
}

export interface Named {
  readonly id: string;
  readonly name: string;
}

export interface ScheduleRun {
  readonly job: string;
  /** Null: by hand. */
  readonly scheduledAtMs: number | null;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly state: 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly problem: Readonly<Record<string, unknown>> | null;
}

export interface Schedule {
  readonly id: string;
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly disks: readonly Named[];
  /** All frozen at one instant. */
  readonly isGroup: boolean;
  readonly target: string;
  readonly targetId: string;
  readonly level: 'full' | 'incremental';
  readonly onMissingBase: 'fail' | 'full';
  readonly retention: RetentionPolicy | null;
  readonly jitterSeconds: number;
  readonly catchUp: 'run-once' | 'skip';
  readonly overlap: 'skip' | 'queue';
  readonly enabled: boolean;
  readonly maxBytesPerSecond: number | null;
  readonly labels: Labels;
  readonly nextRunsMs: readonly number[];
  readonly queuedMs: number | null;
  readonly lastRun: ScheduleRun | null;
  readonly lastSuccessAtMs: number | null;
  readonly lastSkipped: {
    readonly scheduledAtMs: number;
    readonly reason: 'missed' | 'overlap';
  } | null;
  readonly version: number;
  readonly createdAtMs: number;
}

/** Exactly one of `disks` and `group`. */
export interface UpdateSchedule {
  readonly cron?: string;
  readonly timeZone?: string;
  readonly disks?: readonly string[];
  readonly group?: readonly string[];
  readonly target?: string;
  readonly level?: 'full' | 'incremental';
  readonly onMissingBase?: 'fail' | 'full';
  readonly retention?: RetentionPolicy | null;
  readonly jitterSeconds?: number;
  readonly catchUp?: 'run-once' | 'skip';
  readonly overlap?: 'skip' | 'queue';
  readonly enabled?: boolean;
  readonly maxBytesPerSecond?: number | null;
  readonly labels?: Labels;
}

export interface CreateSchedule extends UpdateSchedule {
  readonly name: string;
  readonly cron: string;
  readonly target: string;
}

export interface ScheduleMade {
  readonly schedule: Schedule;
  readonly created: boolean;
}

export interface Schedules {
  /** @throws NAME_TAKEN, NAME_INVALID, VALIDATION_FAILED, NOT_FOUND (disk, target) */
  create(request: CreateSchedule, effects?: Effects<Schedule>): Promise<ScheduleMade>;
  get(ref: string): Schedule;
  list(): readonly Schedule[];
  update(ref: string, change: UpdateSchedule): Promise<Schedule>;
  delete(ref: string): Promise<void>;
  /** @throws JOB_STATE while a run is under way */
  run(ref: string, effects?: Effects<Job>): Promise<Job>;
}

/** The job runner as it is (job/runner.ts), with rows of the database as effects. */
export interface Jobs {
  /** @throws NOT_FOUND */
  get(id: string): Promise<Job>;
  /** Newest first; page size 1 … 1000. @throws VALIDATION_FAILED for a token that is none */
  list(filter: JobFilter): Promise<JobPage>;
  /** All that have not ended, without I/O. */
  liveJobs(): readonly Job[];
  /** When it has ended or waits for what `known` did not, the time is over or the signal fires. */
  wait(id: string, timeoutMs: number, signal?: AbortSignal, known?: Job): Promise<Job>;
  cancel(id: string, effects?: Effects<Job>): Promise<Job>;
  pause(id: string, effects?: Effects<Job>): Promise<Job>;
  resume(id: string, effects?: Effects<Job>): Promise<Job>;
  update(id: string, change: { readonly maxBytesPerSecond: number | null }): Promise<Job>;
}

/** One broken invariant. */
export interface Finding {
  /** Which invariant, by its published name. */
  readonly rule: string;
  readonly detail: string;
}

export interface Check {
  /** Bounded: answers within about a second whatever the size. */
  quick(): Promise<{ readonly ok: boolean; readonly findings: readonly Finding[] }>;
  start(effects?: Effects<Job>): Promise<Job>;
}
