/**
 * The `tape` and `virtual-tape` kinds of target: a set of cartridges and one drive.
 *
 * Kinds differ by the device that is opened, here by nothing. Names, states and manifests come out
 * of the catalog; only bytes need the drive. A cartridge that is needed is waited for.
 *
 * Invariants:
 *  1. One sink at a time, and none while a backup is read: there is one drive.
 *  2. What a filemark confirmed is in the catalog before anybody is told that it is confirmed.
 *  3. Confirmed bytes of a backup are not written again, whatever the caller remembers of them.
 */
import type { Clock } from '../base/clock.ts';
import { systemSleep, uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { ErrorDetails } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import { GIB, MIB } from '../base/units.ts';
import type { CatalogBackup } from '../tape/catalog-backup.ts';
import type { CatalogLine } from '../tape/catalog-state.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { RecordRing } from '../tape/record-ring.ts';
import { TapeSetReader } from '../tape/set-reader.ts';
import { SET_START, TapeSetWriter } from '../tape/set-writer.ts';
import type { SetWriterHost } from '../tape/set-writer.ts';
import { StreamedWriter } from '../tape/streamed-writer.ts';
import { releaseVolume } from '../tape/volume.ts';
import type { MountedVolume } from '../tape/volume.ts';
import type { VolumeWriter } from '../tape/volume-writer.ts';
import { ringMemory } from '../file/page-ring.ts';
import type { RingMemory } from '../file/page-ring.ts';
import { TapeBytes, TapeSink } from './tape-backup.ts';
import type { BegunWriting, TapeSinkHome } from './tape-backup.ts';
import { DriveUse } from './tape-drive-use.ts';
import type { DriveUseOptions } from './tape-drive-use.ts';
import { checkBackupName } from './target.ts';
import type {
  BackupBytes,
  BackupEntry,
  BackupSink,
  CreateOptions,
  Manifest,
  Target,
  TargetCapabilities,
} from './target.ts';

export interface TapeTargetOptions extends DriveUseOptions {
  readonly clock: Clock;
  /** For errors: the path of the device or library. */
  readonly path: string;
  /** A part is closed when it has that many bytes. Default: only when asked to confirm. */
  readonly partBytes?: number;
  /** Memory between the source and the drive. Default: 16 MiB. */
  readonly bufferBytes?: number;
  /** Where that memory comes from, for tests. */
  readonly memory?: RingMemory;
}

/** Little enough for a daemon that is to be small; a drive that stops is helped by more. */
export const DEFAULT_BUFFER_BYTES = 16 * MIB;
/** The ring's memory comes in steps of this. */
export const BUFFER_STEP_BYTES = ringMemory.bytes;
export const MAX_BUFFER_BYTES = GIB;

interface Begun {
  readonly backupId: string;
  readonly backup: string;
  readonly contentId: string | null;
}

export class TapeTarget implements Target {
  readonly capabilities: TargetCapabilities = {
    appendOnly: true,
    seekable: false,
    rangeRead: true,
    createOnce: false,
    parallelWrites: false,
  };
  readonly #o: TapeTargetOptions;
  readonly #drive: DriveUse;
  readonly #turn = new Mutex();
  /** Names that are being written or removed. */
  readonly #busy = new Set<string>();
  #isWriting = false;
  /** Who has the drive open for reading. */
  #reading: TapeSetReader | undefined;

  constructor(options: TapeTargetOptions) {
    this.#o = options;
    this.#drive = new DriveUse(options);
  }

  async createBackup(name: string, options: CreateOptions = {}): Promise<BackupSink> {
    checkBackupName(name);
    this.#reserve(name);
    try {
      if (this.#isWriting) {
        const message = 'another backup is being written with the drive';
        throw new StorageError('TARGET_IN_USE', message, this.#facts(name));
      }
      this.#isWriting = true;
      try {
        return await this.#begin(name, options);
      } catch (error) {
        this.#isWriting = false;
        throw error;
      }
    } catch (error) {
      this.#busy.delete(name);
      throw error;
    }
  }

  async open(name: string): Promise<BackupBytes> {
    const backup = await this.#complete(name);
    const facts = this.#facts(name);
    const reader: TapeSetReader = new TapeSetReader(
      {
        mount: (volumeId) => this.#mount(reader, volumeId, facts),
        release: async (volume) => {
          if (this.#reading === reader) this.#reading = undefined;
          await releaseVolume(volume);
        },
      },
      backup.parts,
      backup.imageBytes,
    );
    return new TapeBytes(reader, (work) => this.#turn.run(work), facts, backup.parts);
  }

  async readManifest(name: string): Promise<Manifest> {
    const { manifest } = await this.#complete(name);
    if (manifest !== null) return manifest;
    const message = `the manifest of ${name} is not readable`;
    throw new StorageError('TARGET_INVALID', message, this.#facts(name));
  }

  async imageBytes(name: string): Promise<number> {
    return (await this.#complete(name)).imageBytes;
  }

  async *list(): AsyncGenerator<BackupEntry> {
    const seen = new Set<string>();
    const state = await this.#o.catalog.read();
    for (const { name } of state.backups) {
      const backup = seen.has(name) ? undefined : state.byName(name);
      seen.add(name);
      if (backup !== undefined && name !== '') yield { name, complete: backup.isComplete };
    }
  }

  /** Out of the catalog; its bytes stay until their cartridges are labelled anew. */
  async remove(name: string): Promise<void> {
    checkBackupName(name);
    this.#reserve(name);
    try {
      const { backups } = await this.#o.catalog.read();
      const found = backups.filter((backup) => backup.name === name);
      if (found.length === 0) throw notFound(name, this.#facts(name));
      await this.#o.catalog.add(...found.map(removed));
    } finally {
      this.#busy.delete(name);
    }
  }

  /** How many cartridges there will be nobody knows. */
  async freeBytes(): Promise<undefined> {
    return undefined;
  }

  async #begin(name: string, { resumeFrom = 0, contentId }: CreateOptions): Promise<TapeSink> {
    const found = (await this.#o.catalog.read()).byName(name);
    if (found?.isComplete === true) {
      throw new StorageError('NAME_TAKEN', `${name} exists`, this.#facts(name));
    }
    const isSame = contentId !== undefined && found?.contentId === contentId;
    const confirmed = found?.position.offset ?? 0;
    if (resumeFrom > confirmed) {
      const message = `the cartridges hold ${confirmed} bytes of ${name}, not ${resumeFrom}`;
      throw new StorageError('TARGET_INVALID', message, { ...this.#facts(name), resumeFrom });
    }
    if (found !== undefined && (isSame || resumeFrom > 0)) {
      return this.#sink(name, found.backupId, found.contentId, resumeFrom);
    }
    const backupId = uuidv7(this.#o.clock);
    const begun = { backupId, backup: name, contentId: contentId ?? null };
    const before = found === undefined ? [] : [removed(found)];
    await this.#o.catalog.add(...before, { kind: 'begun', ...begun });
    return this.#sink(name, backupId, begun.contentId, 0);
  }

  #sink(name: string, backupId: string, contentId: string | null, from: number): TapeSink {
    let manifest: Manifest | null = null;
    /** Mounted, and not yet in the hands of the writer. */
    let first: VolumeWriter | undefined;
    const interrupted = new AbortController();
    const host: SetWriterHost = {
      nextVolume: async () => {
        const volume = first ?? (await this.#drive.nextVolume(interrupted.signal));
        first = undefined;
        return volume;
      },
      partWritten: async (entry) => {
        const part = { entry, contentId, manifest: entry.state === 'final' ? manifest : null };
        await this.#o.catalog.add({ kind: 'part', part });
      },
      release: (writer, why) => this.#release(writer, why),
    };
    const home: TapeSinkHome = {
      facts: this.#facts(name),
      begin: async () => {
        // The cartridge comes first: only then is it known what of the backup is on it.
        await this.#turn.run(async () => this.#reading?.close());
        first = await this.#drive.nextVolume(interrupted.signal);
        return this.#begun(host, { backupId, backup: name, contentId }, first.volume.label);
      },
      completing: (given) => {
        manifest = given;
      },
      interrupt: () => {
        interrupted.abort(new StorageError('CANCELLED', 'the backup is given up'));
      },
      discard: async () => {
        const backup = (await this.#o.catalog.read()).byName(name);
        if (backup?.isComplete === false) await this.#o.catalog.add(removed(backup));
      },
      release: async () => {
        await first?.release();
        first = undefined;
        this.#isWriting = false;
        this.#busy.delete(name);
      },
    };
    return new TapeSink(home, from);
  }

  async #begun(
    host: SetWriterHost,
    begun: Begun,
    { setId, recordBytes }: VolumeLabel,
  ): Promise<BegunWriting> {
    const { catalog, clock, partBytes = Infinity, memory = ringMemory } = this.#o;
    const { bufferBytes = DEFAULT_BUFFER_BYTES } = this.#o;
    const { backupId, contentId } = begun;
    const { backups } = await catalog.read();
    const found = backups.find((backup) => backup.backupId === backupId);
    if (found?.isComplete === true) return { knownBytes: found.imageBytes, writer: undefined };
    const from = found?.position ?? SET_START;
    const info = contentId === null ? null : { contentId };
    const backup = { backupId, backup: begun.backup, setId, info };
    const records = new TapeSetWriter(host, backup, { clock, partBytes, from });
    const ring = new RecordRing(recordBytes, bufferBytes, memory);
    const writer = new StreamedWriter(records, ring, { clock, sleep: systemSleep });
    return { knownBytes: from.offset, writer };
  }

  async #release(writer: VolumeWriter, why: 'full' | 'done' | 'failed'): Promise<void> {
    await writer.release(why === 'failed');
    const { volumeId } = writer.volume.label;
    if (why === 'full' || writer.isFull) await this.#o.catalog.add({ kind: 'full', volumeId });
  }

  /** In the turn of `reader`: whoever has the drive open is not reading now. */
  async #mount(
    reader: TapeSetReader,
    volumeId: string,
    facts: ErrorDetails,
  ): Promise<MountedVolume | null> {
    if (this.#isWriting) {
      const message = 'a backup is being written with the drive';
      throw new StorageError('TARGET_IN_USE', message, facts);
    }
    await this.#reading?.close();
    const volume = (await this.#o.catalog.read()).volume(volumeId);
    if (volume === undefined) return null;
    const mounted = await this.#drive.mountForRead(volume);
    if (mounted !== null) this.#reading = reader;
    return mounted;
  }

  async #complete(name: string): Promise<CatalogBackup> {
    checkBackupName(name);
    const found = (await this.#o.catalog.read()).byName(name);
    if (found === undefined) throw notFound(name, this.#facts(name));
    if (found.isComplete) return found;
    const message = `the backup ${name} is incomplete`;
    throw new StorageError('BACKUP_INCOMPLETE', message, this.#facts(name));
  }

  #facts(name: string): ErrorDetails {
    return { target: this.#o.path, backup: name };
  }

  #reserve(name: string): void {
    if (this.#busy.has(name)) {
      throw new StorageError('BACKUP_IN_USE', `${name} is being written`, this.#facts(name));
    }
    this.#busy.add(name);
  }
}

function removed({ backupId }: CatalogBackup): CatalogLine {
  return { kind: 'removed', backupId };
}

function notFound(name: string, facts: ErrorDetails): StorageError {
  return new StorageError('NOT_FOUND', `no backup ${name}`, facts);
}
