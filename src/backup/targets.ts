/**
 * The targets of a store: where backups may go. The medium is the truth; this is its address book.
 */
import { join } from 'node:path';
import { type Clock, uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { bumpIfChanged } from '../base/version.ts';
import { checkName } from '../disk/names.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { DirectoryTarget } from '../target/file.ts';
import { CartridgeFetcher } from '../target/cartridge-fetch.ts';
import { ChangerRooms } from '../target/changer-room.ts';
import type { ChangerUse } from '../target/changer-use.ts';
import { beginTape } from '../target/tape-device.ts';
import type { TapeKind } from '../target/tape-device.ts';
import type { TapeMedia } from '../target/tape-media.ts';
import { changerUseAt, forgetTape, tapeMediaAt, tapeTargetAt } from '../target/tape-place.ts';
import type { TapePlaceFacts } from '../target/tape-place.ts';
import type { Target } from '../target/target.ts';
import { DriveFigures } from './drive-figures.ts';
import { DriveLeases } from './drive-leases.ts';
import {
  type Labels,
  type TargetChanger,
  type TargetKind,
  type TargetRecord,
  readTarget,
  targetRow,
} from './records.ts';
import { checkedBuffer } from './target-buffer.ts';
import { checkTape, VIRTUAL } from './target-request.ts';
import type { TargetRequest } from './target-request.ts';
import type { TargetPlace } from './worker-protocol.ts';

export interface TargetsOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  /** Resolves a client's path for this kind of target. @throws PATH_NOT_ALLOWED */
  readonly resolvePath: (path: string, kind: TargetKind) => Promise<string>;
  /** Where the catalogs of cartridges lie. */
  readonly catalogs: string;
}

export class Targets {
  readonly #o: TargetsOptions;
  readonly #targets = new Map<string, TargetRecord>();
  readonly leases = new DriveLeases();
  readonly figures = new DriveFigures();
  readonly #changers = new ChangerRooms();

  constructor(options: TargetsOptions) {
    this.#o = options;
  }

  async open(): Promise<void> {
    for (const row of await this.#o.store.rows('targets')) {
      const record = readTarget(row);
      this.#targets.set(record.id, record);
    }
  }

  list(): TargetRecord[] {
    return [...this.#targets.values()];
  }

  find(ref: string): TargetRecord | undefined {
    return this.#targets.get(ref) ?? this.list().find((target) => target.name === ref);
  }

  /** By name or id. @throws NOT_FOUND */
  get(ref: string): TargetRecord {
    const target = this.find(ref);
    if (target === undefined) {
      throw new StorageError('NOT_FOUND', `there is no target ${ref}`, { target: ref });
    }
    return target;
  }

  /** Its address, for any thread. */
  place(record: TargetRecord): TargetPlace {
    const { kind, path } = record;
    return kind === 'directory' ? { kind, path } : this.#tapePlace(record, kind);
  }

  /** The medium, as far as no cartridge is needed: what needs one goes through `runOnTarget`. */
  medium(record: TargetRecord): Target {
    const place = this.place(record);
    if (place.kind === 'directory') return new DirectoryTarget(place.path);
    return tapeTargetAt(place, async ({ reason }) => {
      throw new StorageError('MEDIUM_ABSENT', reason, { target: record.name });
    });
  }

  /** What hands do with its cartridges. @throws VALIDATION_FAILED if it has none */
  media(record: TargetRecord): TapeMedia {
    const { kind, name } = record;
    if (kind !== 'directory') {
      return tapeMediaAt(this.#tapePlace(record, kind), this.changer(record));
    }
    const message = `target ${name} has no cartridges`;
    throw new StorageError('VALIDATION_FAILED', message, { field: 'target', target: name });
  }

  /** What loads its drive; undefined: hands do. */
  changer(record: TargetRecord): ChangerUse | undefined {
    const { kind, path, changer } = record;
    if (kind === 'directory' || changer === null) return undefined;
    const room = this.#changers.room({ kind, path: kind === 'tape' ? changer.device : path });
    return changerUseAt(this.#tapePlace(record, kind), room, changer.drive);
  }

  /** For a job that has the drive. */
  fetcher(record: TargetRecord): CartridgeFetcher | undefined {
    const changer = this.changer(record);
    return changer === undefined ? undefined : new CartridgeFetcher(changer);
  }

  #tapePlace(record: TargetRecord, kind: TapeKind): TapePlaceFacts {
    const { id, name, path, set, bufferBytes } = record;
    const catalog = join(this.#o.catalogs, `${id}.jsonl`);
    const place = { kind, path, catalog, set: set ?? name };
    return bufferBytes === null ? place : { ...place, bufferBytes };
  }

  /**
   * Makes a target and its directory; the same request again answers the one there is.
   * @throws NAME_TAKEN, NAME_INVALID, PATH_NOT_ALLOWED, TARGET_IN_USE (path), TARGET_UNAVAILABLE
   */
  async create(
    request: TargetRequest,
    effects?: (made: { target: TargetRecord; created: boolean }) => readonly RowChange[],
  ): Promise<{ target: TargetRecord; created: boolean }> {
    checkName(request.name);
    checkTape(request);
    if (request.set !== undefined) checkName(request.set, 'set');
    const set = request.kind === 'directory' ? null : (request.set ?? request.name);
    const bufferBytes = checkedBuffer(request.kind, request.bufferBytes);
    const path = await this.#o.resolvePath(request.path, request.kind);
    const changer = await this.#changerOf(request);
    const creation = JSON.stringify({
      kind: request.kind,
      path,
      labels: request.labels ?? {},
      ...(set === null ? {} : { set }),
      ...(request.bufferBytes === undefined ? {} : { bufferBytes }),
      ...(changer === null ? {} : { changer }),
    });
    const there = this.list().find((target) => target.name === request.name);
    if (there !== undefined) {
      if (there.creation === creation) return { target: there, created: false };
      throw nameTaken(there);
    }
    const samePath = this.list().find((target) => target.path === path);
    if (samePath !== undefined) {
      throw new StorageError('TARGET_IN_USE', `target ${samePath.name} has this path already`, {
        field: 'path',
        target: samePath.name,
      });
    }
    this.#checkDrive(path, changer);
    const record: TargetRecord = {
      id: uuidv7(this.#o.clock),
      name: request.name,
      kind: request.kind,
      path,
      set,
      bufferBytes,
      changer,
      labels: request.labels ?? {},
      creation,
      version: 1,
      createdAtMs: this.#o.clock.nowMs(),
    };
    this.#targets.set(record.id, record);
    try {
      if (record.kind === 'directory') await DirectoryTarget.create(path);
      else await beginTape(record.kind, path, changer !== null);
      await this.changer(record)?.checkDrive();
      const made = { target: record, created: true };
      await this.#commit([targetRow(record), ...(effects?.(made) ?? [])]);
      return made;
    } catch (error) {
      this.#targets.delete(record.id);
      throw error;
    }
  }

  async #changerOf({ kind, changer, changerDrive = 0 }: TargetRequest) {
    if (changer === undefined) return null;
    if (kind === 'virtual-tape') return { device: changer, drive: changerDrive };
    try {
      return { device: await this.#o.resolvePath(changer, 'tape'), drive: changerDrive };
    } catch (error) {
      throw error instanceof StorageError ? error.with({ field: 'changer' }) : error;
    }
  }

  /** @throws TARGET_IN_USE: another target has this drive of the changer */
  #checkDrive(path: string, changer: TargetChanger | null): void {
    if (changer === null || changer.device === VIRTUAL) return;
    const other = this.list().find((target) => {
      const { device, drive } = target.changer ?? {};
      const isSame = device === changer.device && drive === changer.drive;
      return isSame || target.path === changer.device || device === path;
    });
    if (other === undefined && path !== changer.device) return;
    const message = 'a changer is no drive, and each drive of it belongs to one target';
    throw new StorageError('TARGET_IN_USE', message, {
      field: 'changer',
      ...(other === undefined ? {} : { target: other.name }),
    });
  }

  /** A buffer of another size serves the next job. @throws NAME_TAKEN, VALIDATION_FAILED */
  async update(
    ref: string,
    patch: { name?: string; labels?: Labels; bufferBytes?: number },
  ): Promise<TargetRecord> {
    const record = this.get(ref);
    const bufferBytes =
      patch.bufferBytes === undefined
        ? record.bufferBytes
        : checkedBuffer(record.kind, patch.bufferBytes);
    if (patch.name !== undefined && patch.name !== record.name) {
      checkName(patch.name);
      const other = this.list().find((target) => target.name === patch.name);
      if (other !== undefined) throw nameTaken(other);
    }
    const before = [record.name, record.labels, record.bufferBytes];
    record.name = patch.name ?? record.name;
    record.labels = patch.labels ?? record.labels;
    record.bufferBytes = bufferBytes;
    bumpIfChanged(record, before, [record.name, record.labels, bufferBytes]);
    await this.#commit([targetRow(record)]);
    return record;
  }

  /** Forgets it with the rows that hang on it; the medium stays as it is. */
  async forget(record: TargetRecord, rows: readonly RowChange[]): Promise<void> {
    const gone: RowChange = { table: 'targets', key: { id: record.id }, row: undefined };
    await this.#commit([gone, ...rows]);
    this.#targets.delete(record.id);
    this.figures.forget(record.id);
    const { kind } = record;
    if (kind !== 'directory') await forgetTape(this.#tapePlace(record, kind));
  }

  async #commit(rows: readonly RowChange[]): Promise<void> {
    await this.#o.store.commit({ pages: [], rows });
  }
}

function nameTaken(target: TargetRecord): StorageError {
  return new StorageError('NAME_TAKEN', `there is a target ${target.name} already`, {
    name: target.name,
    id: target.id,
  });
}
