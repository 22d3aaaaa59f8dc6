/**
 * The `directory` kind of target: one folder a backup, below a base directory.
 *
 *     BASE/NAME/image.spindle.partial    bytes of a transfer that is not complete
 *     BASE/NAME/image.spindle            the image of a complete backup
 *     BASE/NAME/manifest.json.partial    being written
 *     BASE/NAME/manifest.json            its presence makes the backup complete
 *
 * A commit: image bytes durable → manifest written beside and durable → image renamed → folder
 * synced → manifest renamed → folder and base synced. A crash between the renames leaves an image
 * without a manifest: incomplete, and a resume renames it back.
 *
 * Invariants:
 *  1. manifest.json exists only beside a whole image.spindle.
 *  2. Nothing but these four files and their folder is ever removed; a folder that holds other
 *     files stays, and a folder with other files only is no backup.
 *  3. No symbolic link is followed, neither below BASE nor where BASE was when it was allowed: only
 *     a regular file is an image or a manifest. A folder where something else has one of the four
 *     names stays as it is.
 *  4. A manifest of another program that has no image beside it makes its folder one of others.
 *  5. An image without a manifest may be all that is left of someone's backup: it is dropped, or
 *     removed with a failed transfer, only if it is of the image that was to be written.
 *
 * Folders are 0700 and files 0600. BASE is made by `DirectoryTarget.create` only: a base that is
 * gone later (an unmounted share) is an unavailable target, not an empty one.
 */
import {
  lstat,
  mkdir,
  opendir,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  statfs,
} from 'node:fs/promises';
import { join } from 'node:path';
import { isZero } from '../base/bytes.ts';
import { StorageError, errnoOf } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';
import { DirectoryBytes, DirectorySink } from './directory-backup.ts';
import { lookAt, readSmall, syncFolder, writeSmall } from './folder.ts';
import type { Found } from './folder.ts';
import { systemFiles } from '../file/bulk-file.ts';
import type { BulkFiles } from '../file/bulk-file.ts';
import { BulkWriter } from '../file/bulk-writer.ts';
import { asTargetError } from './target-error.ts';
import {
  HEAD_BYTES,
  MANIFEST_FORMAT,
  MAX_MANIFEST_BYTES,
  checkBackupName,
  isBackupName,
} from './target.ts';
import type {
  BackupBytes,
  BackupEntry,
  BackupSink,
  CreateOptions,
  Manifest,
  OwnBytes,
  Target,
  TargetCapabilities,
} from './target.ts';

const IMAGE = 'image.spindle';
const PARTIAL_IMAGE = 'image.spindle.partial';
const MANIFEST = 'manifest.json';
const PARTIAL_MANIFEST = 'manifest.json.partial';
/** In the order in which `remove` takes them: first what makes a backup complete. */
const ownFiles: readonly string[] = [MANIFEST, PARTIAL_MANIFEST, IMAGE, PARTIAL_IMAGE];
/** Of a file that is not ours: it cannot be read, or is there no more. */
const notReadable: readonly unknown[] = ['EACCES', 'EPERM', 'ENOENT', 'ELOOP'];

export interface DirectoryTargetOptions {
  /** The seam for tests. */
  readonly files?: BulkFiles;
}

export class DirectoryTarget implements Target {
  readonly capabilities: TargetCapabilities = {
    appendOnly: false,
    seekable: true,
    rangeRead: true,
    createOnce: false,
    parallelWrites: true,
  };
  /** The base directory, absolute, without links; which are allowed is decided by paths.ts. */
  readonly path: string;
  readonly #files: BulkFiles;
  /** Names with an open sink, or being removed. */
  readonly #busy = new Set<string>();

  constructor(path: string, options: DirectoryTargetOptions = {}) {
    this.path = path;
    this.#files = options.files ?? systemFiles;
  }

  /** Makes the base directory (0700) if it is not there. @throws TARGET_UNAVAILABLE TARGET_FULL */
  static async create(path: string, options?: DirectoryTargetOptions): Promise<DirectoryTarget> {
    const target = new DirectoryTarget(path, options);
    await target.#attempt({}, async () => {
      await mkdir(path, { recursive: true, mode: 0o700 });
      await target.#checkBase();
    });
    return target;
  }

  async createBackup(name: string, options: CreateOptions = {}): Promise<BackupSink> {
    checkBackupName(name);
    this.#reserve(name);
    try {
      const resumeFrom = options.resumeFrom ?? 0;
      const writer = await this.#attempt({ backup: name }, () =>
        this.#begin(name, resumeFrom, options.owns),
      );
      return new DirectorySink(writer, {
        facts: this.#facts(name),
        publish: (text) => this.#publish(name, text),
        discard: () => this.#discard(name),
        release: () => this.#busy.delete(name),
      });
    } catch (error) {
      this.#busy.delete(name);
      throw error;
    }
  }

  async open(name: string): Promise<BackupBytes> {
    checkBackupName(name);
    return this.#attempt({ backup: name }, async () => {
      await this.#checkComplete(name);
      const file = await this.#files.open(this.#at(name, IMAGE), 'read');
      try {
        return new DirectoryBytes(file, await file.size(), this.#facts(name));
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  async readManifest(name: string): Promise<Manifest> {
    checkBackupName(name);
    return this.#attempt({ backup: name }, async () => {
      await this.#checkComplete(name);
      const text = await readSmall(this.#at(name, MANIFEST), MAX_MANIFEST_BYTES);
      const manifest = text === undefined ? undefined : parseManifest(text);
      if (manifest !== undefined) return manifest;
      throw new StorageError('TARGET_INVALID', `the manifest of ${name} is not readable`);
    });
  }

  async imageBytes(name: string): Promise<number> {
    checkBackupName(name);
    return this.#attempt({ backup: name }, async () => {
      await this.#checkComplete(name);
      return (await lstat(this.#at(name, IMAGE))).size;
    });
  }

  async *list(): AsyncGenerator<BackupEntry> {
    const names = await this.#attempt({}, async () => {
      await this.#checkBase();
      return readdir(this.path);
    });
    for (const name of names.filter(isBackupName)) {
      const found = await this.#attempt({ backup: name }, () => this.#lookAt(name));
      if (isBackup(found)) yield { name, complete: isComplete(found) };
    }
  }

  async remove(name: string, owns?: OwnBytes): Promise<void> {
    checkBackupName(name);
    this.#reserve(name);
    try {
      await this.#attempt({ backup: name }, async () => {
        const found = await this.#find(name);
        if (!isComplete(found)) await this.#checkOwn(name, found, owns);
        await this.#removeFiles(name, found);
      });
    } finally {
      this.#busy.delete(name);
    }
  }

  async freeBytes(): Promise<number> {
    return this.#attempt({}, async () => {
      const { bavail, bsize } = await statfs(this.path);
      return bavail * bsize;
    });
  }

  #at(name: string, file: string): string {
    return join(this.path, name, file);
  }

  #facts(name: string): ErrorDetails {
    return { target: this.path, backup: name };
  }

  #reserve(name: string): void {
    if (this.#busy.has(name)) {
      throw new StorageError('BACKUP_IN_USE', `${name} is being written`, this.#facts(name));
    }
    this.#busy.add(name);
  }

  #taken(name: string, what: string): StorageError {
    const message = `${join(this.path, name)} exists on the target and ${what}`;
    return new StorageError('NAME_TAKEN', message, { ...this.#facts(name), name });
  }

  /** What is there under the name; a folder of others is something else. */
  async #lookAt(name: string): Promise<Found> {
    const found = await lookAt(join(this.path, name));
    const isAlone = holds(found, MANIFEST) && found.kind === 'folder' && !found.entries.has(IMAGE);
    return isAlone && !(await this.#isManifestOwn(name)) ? { kind: 'other' } : found;
  }

  async #isManifestOwn(name: string): Promise<boolean> {
    try {
      const text = await readSmall(this.#at(name, MANIFEST), MAX_MANIFEST_BYTES);
      return text !== undefined && parseManifest(text)?.['format'] === MANIFEST_FORMAT;
    } catch (error) {
      if (notReadable.includes(errnoOf(error))) return false;
      throw error;
    }
  }

  /** @throws NAME_TAKEN if bytes of others lie there without a manifest */
  async #checkOwn(name: string, found: Found, owns: OwnBytes | undefined): Promise<void> {
    if (owns === undefined) return;
    for (const file of [IMAGE, PARTIAL_IMAGE]) {
      if (!holds(found, file)) continue;
      const head = await this.#head(name, file);
      // the beginning of a transfer that was cut
      const isNothing = file === PARTIAL_IMAGE && (head.length < HEAD_BYTES || isZero(head));
      if (!isNothing && !owns(head)) throw this.#taken(name, `its ${file} is of another backup`);
    }
  }

  /** The first bytes of a file, fewer if it is shorter. */
  async #head(name: string, fileName: string): Promise<Uint8Array> {
    const file = await this.#files.open(this.#at(name, fileName), 'read');
    try {
      const head = new Uint8Array(HEAD_BYTES);
      let length = 0;
      for (let count = -1; count !== 0 && length < HEAD_BYTES; length += count) {
        count = await file.read(head.subarray(length), length);
      }
      return head.subarray(0, length);
    } finally {
      await file.close();
    }
  }

  async #begin(name: string, resumeFrom: number, owns: OwnBytes | undefined): Promise<BulkWriter> {
    await this.#checkBase();
    const folder = join(this.path, name);
    const found = await this.#lookAt(name);
    if (isComplete(found)) throw this.#taken(name, 'is a backup');
    const isOthers = found.kind === 'folder' && !isBackup(found);
    if (found.kind === 'other' || isOthers || hasStrangers(found)) {
      throw this.#taken(name, 'is not a left-over of a backup');
    }
    await this.#checkOwn(name, found, owns);
    if (found.kind === 'nothing') await mkdir(folder, { mode: 0o700 });
    await rm(this.#at(name, PARTIAL_MANIFEST), { force: true });
    if (holds(found, MANIFEST)) await rm(this.#at(name, MANIFEST));
    if (holds(found, IMAGE)) await rename(this.#at(name, IMAGE), this.#at(name, PARTIAL_IMAGE));
    const writer = await BulkWriter.open(this.#files, this.#at(name, PARTIAL_IMAGE), resumeFrom);
    try {
      await syncFolder(folder);
      await syncFolder(this.path);
      return writer;
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  /** A commit from its second step on. */
  async #publish(name: string, manifestText: string): Promise<void> {
    const folder = join(this.path, name);
    await writeSmall(this.#at(name, PARTIAL_MANIFEST), manifestText);
    await rename(this.#at(name, PARTIAL_IMAGE), this.#at(name, IMAGE));
    await syncFolder(folder);
    await rename(this.#at(name, PARTIAL_MANIFEST), this.#at(name, MANIFEST));
    await syncFolder(folder);
    await syncFolder(this.path);
  }

  /** Removes what is incomplete; a commit that failed late may have made it complete. */
  async #discard(name: string): Promise<void> {
    const found = await this.#lookAt(name);
    if (isBackup(found) && !isComplete(found)) await this.#removeFiles(name, found);
  }

  async #removeFiles(name: string, found: Found): Promise<void> {
    if (hasStrangers(found)) return;
    const folder = join(this.path, name);
    for (const file of ownFiles.filter((own) => holds(found, own))) {
      await rm(join(folder, file), { force: true });
      if (file === MANIFEST) await syncFolder(folder);
    }
    if (hasOwnOnly(found)) await rmdir(folder);
    await syncFolder(this.path);
  }

  /** @throws NOT_FOUND unless there is a backup of this name */
  async #find(name: string): Promise<Found> {
    await this.#checkBase();
    const found = await this.#lookAt(name);
    if (isBackup(found)) return found;
    throw new StorageError('NOT_FOUND', `no backup ${name}`);
  }

  async #checkComplete(name: string): Promise<void> {
    if (isComplete(await this.#find(name))) return;
    throw new StorageError('BACKUP_INCOMPLETE', `the backup ${name} is incomplete`);
  }

  /** @throws ENOENT, ENOTDIR, EACCES …; TARGET_UNAVAILABLE if a link leads elsewhere by now */
  async #checkBase(): Promise<void> {
    const real = await realpath(this.path);
    if (real !== this.path) {
      const message = `${this.path} has become a link to ${real}`;
      throw new StorageError('TARGET_UNAVAILABLE', message, { target: this.path });
    }
    await (await opendir(this.path)).close();
  }

  async #attempt<T>(details: ErrorDetails, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw asTargetError(error, { target: this.path, ...details });
    }
  }
}

/** True for a regular file only. */
function holds(found: Found, file: string): boolean {
  return found.kind === 'folder' && found.files.has(file);
}

/** True if something else, like a link or a folder, has one of our names. */
function hasStrangers(found: Found): boolean {
  if (found.kind !== 'folder') return false;
  return ownFiles.some((file) => found.entries.has(file) && !found.files.has(file));
}

function isComplete(found: Found): boolean {
  return holds(found, MANIFEST) && holds(found, IMAGE);
}

function hasOwnOnly(found: Found): boolean {
  if (found.kind !== 'folder' || hasStrangers(found)) return false;
  return [...found.entries].every((file) => ownFiles.includes(file));
}

/** A folder with one of our files, or an empty one (a crash right after it was made). */
function isBackup(found: Found): boolean {
  return hasOwnOnly(found) || ownFiles.some((file) => holds(found, file));
}

function parseManifest(text: string): Manifest | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
