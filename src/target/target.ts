/**
 * Where backups live: the interface of every target, and its contract.
 *
 * A backup is a name, the bytes of one image, and a manifest (a small JSON object). Its life:
 *
 *  1. `createBackup` gives a sink; bytes go in at `offset`, in order, without gaps.
 *  2. `confirm` makes all bytes written so far durable and answers how many they are. Only what was
 *     confirmed may be counted on after a crash.
 *  3. `commit` makes the backup exist. Until then it is incomplete and `open` refuses it.
 *  4. A cut transfer goes on with `createBackup(name, { resumeFrom })`, where resumeFrom is an
 *     offset that was confirmed; what lies behind it is cut off.
 *
 * Laws (contract suite test/contract/target.ts, run against every implementation):
 *  1. A backup counts only with its manifest: whatever is cut before `commit` is done leaves an
 *     incomplete one, never a complete one with other bytes.
 *  2. A committed backup survives a power cut; so do the bytes before a confirmed offset.
 *  3. A transfer that was cut and resumed gives the same bytes as one that was not.
 *  4. `write` has copied the bytes when it resolves: the caller may use its buffers again.
 *  5. After a failed write or confirm the sink stays broken: every later call but `abort` throws.
 *  6. A complete backup is never changed; its name is taken until it is removed.
 *  7. One sink a name at a time; the calls of one sink follow each other, each awaited.
 *  8. Names are checked here again: a hostile one never reaches the medium.
 *  9. Bytes without a manifest that are another image's are never taken for a left-over.
 * 10. On an append-only medium `remove` takes a backup out of what the target knows; its bytes stay
 *     until the medium is overwritten. A resumed transfer repeats its bytes: what was confirmed
 *     behind `resumeFrom` is not written again.
 *
 * Errors by code: NAME_INVALID, NAME_TAKEN (a complete backup of that name, or what is others'),
 * BACKUP_IN_USE (a sink is open), NOT_FOUND, BACKUP_INCOMPLETE, TARGET_INVALID (cannot resume
 * there: begin at 0; or unreadable manifest), TARGET_FULL, TARGET_UNAVAILABLE, IMAGE_TRUNCATED
 * (read beyond the end), DATA_UNREADABLE (this range only; others may be read), TARGET_IN_USE, and
 * on tape MEDIUM_… with what to do next. Details carry `target` and `backup`.
 */
import { isUuid } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { DriveFlow } from '../tape/streamed-writer.ts';

export type { DriveFlow } from '../tape/streamed-writer.ts';

export interface TargetCapabilities {
  /** Bytes can only be added at the end of the medium (tape). */
  readonly appendOnly: boolean;
  /** Reads may begin anywhere at a cost that does not grow with the offset. */
  readonly seekable: boolean;
  /** `BackupBytes.read` reads a part without reading what is before it. */
  readonly rangeRead: boolean;
  /** The medium itself refuses to replace what exists (object lock, conditional put). */
  readonly createOnce: boolean;
  /** Several sinks may be open at once. Else the second is refused with TARGET_IN_USE. */
  readonly parallelWrites: boolean;
}

/**
 * Plain JSON, at most 1 MiB as text. What is in it is the caller's, but for `format`: by
 * MANIFEST_FORMAT a target knows what is its own.
 */
export type Manifest = Readonly<Record<string, unknown>>;

export interface BackupEntry {
  readonly name: string;
  readonly complete: boolean;
}

export interface CreateOptions {
  /** Default 0: a left-over of an earlier transfer is dropped. */
  readonly resumeFrom?: number;
  /**
   * Names the bytes: whoever gives it again gives the same bytes. An append-only target then keeps
   * what it confirmed of an earlier transfer, wherever this one begins, and writes only the rest.
   */
  readonly contentId?: string;
  readonly owns?: OwnBytes;
}

/**
 * Whether bytes that lie under the name without a manifest are of the same image, by the first
 * HEAD_BYTES of them. What is not ours stays as it is. Default: all are.
 */
export type OwnBytes = (head: Uint8Array) => boolean;

export const HEAD_BYTES = 4096;

/** Where the bytes of one image go. */
export interface BackupSink {
  /** Bytes taken so far, those before `resumeFrom` included. */
  readonly offset: number;
  /**
   * Appends. Resolves when there is room for more, not when they are durable.
   *
   * @param checksums CRC-32 of each of the blocks of equal size that a single buffer consists of,
   *   if they are known: a target that writes checksums of its own need not compute them
   */
  write(buffers: readonly Uint8Array[], checksums?: Uint32Array): Promise<void>;
  /** Makes everything taken so far durable. @returns the confirmed offset, at most `offset` */
  confirm(): Promise<number>;
  /**
   * Makes the backup complete and durable and ends the sink. If it throws, the backup is either
   * complete or incomplete as before: `list` tells.
   */
  commit(manifest: Manifest): Promise<void>;
  /** If the bytes go through memory to a drive; undefined as long as the drive is not open. */
  flow?(): DriveFlow | undefined;
  /** Ends the sink; `keep` leaves what is there for a resume. Idempotent; nothing after commit. */
  abort(keep: boolean): Promise<void>;
}

/** The bytes of one complete backup. */
export interface BackupBytes {
  readonly sizeBytes: number;
  /** True where going to and fro is dear, as between cartridges. Default false. */
  readonly isSequential?: boolean;
  /** Fills `into` from `offset` on. @throws IMAGE_TRUNCATED if that reaches beyond the end */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}

export interface Target {
  readonly capabilities: TargetCapabilities;
  /** Begins a backup or goes on with one. Costs a few small writes. */
  createBackup(name: string, options?: CreateOptions): Promise<BackupSink>;
  open(name: string): Promise<BackupBytes>;
  readManifest(name: string): Promise<Manifest>;
  /** What the medium holds of the image of a complete backup; reads none of it. */
  imageBytes(name: string): Promise<number>;
  /** Every backup, in no order, also incomplete ones; what is not a backup is left out. */
  list(): AsyncIterable<BackupEntry>;
  /**
   * Removes a backup, complete or not. @throws NOT_FOUND if it is gone
   * @param owns spares bytes of others that have no manifest. @throws NAME_TAKEN if they are there
   */
  remove(name: string, owns?: OwnBytes): Promise<void>;
  /** Room for more, or undefined if the medium does not tell. */
  freeBytes(): Promise<number | undefined>;
}

export const MANIFEST_FORMAT = 'spindle-backup';
export const MAX_MANIFEST_BYTES = 1024 * 1024;

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** True for the names that clients may choose: they are safe as the name of a folder. */
export function isBackupName(name: string): boolean {
  return NAME.test(name) && !isUuid(name);
}

/** @throws NAME_INVALID */
export function checkBackupName(name: string): void {
  if (isBackupName(name)) return;
  throw new StorageError('NAME_INVALID', 'a name matches [a-z0-9][a-z0-9._-]{0,62}, no UUID', {
    field: 'name',
  });
}
