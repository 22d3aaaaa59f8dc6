/**
 * The manifest beside an image: what a scan needs to list a backup without reading its image.
 *
 * It is a convenience: the image describes itself, and a restore believes only the image.
 */
import { isUuid, rfc3339 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { checkCapacity, isBlockSize } from '../base/units.ts';
import { GROUP_DISKS_MAX } from '../copy/group-plan.ts';
import { MANIFEST_FORMAT } from '../target/target.ts';
import type { Manifest } from '../target/target.ts';
import { type BackupRecord, groupMembersOf, type Labels } from './records.ts';

export function manifestOf(record: BackupRecord): Manifest {
  return {
    format: MANIFEST_FORMAT,
    version: 1,
    name: record.name,
    imageId: record.imageId,
    copyId: record.copyId,
    copy: record.copyName,
    diskId: record.diskId,
    disk: record.diskName,
    generation: record.generation,
    frozenAt: rfc3339(record.frozenAtMs),
    level: record.level,
    base: record.base === null ? null : { ...record.base },
    usedBytes: record.usedBytes,
    dataBytes: record.dataBytes,
    sourceCapacityBytes: record.sourceCapacityBytes,
    blockSizeBytes: record.blockSizeBytes,
    labels: record.labels,
    createdAt: rfc3339(record.createdAtMs),
    ...(record.group === undefined ? {} : { group: { ...record.group } }),
  };
}

/** What a scan takes from a manifest. */
export type ManifestFacts = Omit<
  BackupRecord,
  'id' | 'name' | 'targetId' | 'mediumName' | 'state' | 'job' | 'verifiedAtMs' | 'version'
>;

/** @throws TARGET_INVALID with the field that is wrong */
export function readManifest(manifest: Manifest): ManifestFacts {
  const read = new Fields(manifest);
  if (manifest['format'] !== MANIFEST_FORMAT || manifest['version'] !== 1) {
    throw new StorageError('TARGET_INVALID', 'this is no manifest of a version 1 backup');
  }
  const sourceCapacityBytes = read.number('sourceCapacityBytes');
  const blockSizeBytes = read.number('blockSizeBytes');
  const usedBytes = read.number('usedBytes');
  const generation = read.number('generation');
  checkCapacity(sourceCapacityBytes, 'sourceCapacityBytes');
  if (!isBlockSize(blockSizeBytes)) read.fail('blockSizeBytes');
  return {
    imageId: read.uuid('imageId'),
    copyId: read.uuid('copyId'),
    copyName: read.text('copy'),
    diskId: read.uuid('diskId'),
    diskName: read.text('disk'),
    generation,
    frozenAtMs: read.time('frozenAt'),
    ...read.level(generation),
    mediumBytes: read.number('imageBytes'),
    usedBytes,
    dataBytes: manifest['dataBytes'] === undefined ? usedBytes : read.number('dataBytes'),
    sourceCapacityBytes,
    blockSizeBytes,
    labels: read.labels(),
    createdAtMs: read.time('createdAt'),
    ...read.group(),
  };
}

class Fields {
  readonly #manifest: Manifest;

  constructor(manifest: Manifest) {
    this.#manifest = manifest;
  }

  fail(name: string): never {
    throw new StorageError('TARGET_INVALID', `the manifest has no valid ${name}`, { field: name });
  }

  text(name: string): string {
    const value = this.#manifest[name];
    return typeof value === 'string' && value.length <= 255 ? value : this.fail(name);
  }

  uuid(name: string): string {
    const value = this.text(name);
    return isUuid(value) ? value : this.fail(name);
  }

  number(name: string): number {
    const value = this.#manifest[name];
    const good = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
    return good ? value : this.fail(name);
  }

  time(name: string): number {
    const ms = Date.parse(this.text(name));
    return Number.isSafeInteger(ms) ? ms : this.fail(name);
  }

  /** `level` and `base` go together; a base is older than what is built on it. */
  level(generation: number): Pick<BackupRecord, 'level' | 'base'> {
    const level = this.#manifest['level'] ?? 'full';
    const base: unknown = this.#manifest['base'] ?? null;
    if (level === 'full') return base === null ? { level, base } : this.fail('base');
    if (level !== 'incremental') return this.fail('level');
    if (typeof base !== 'object' || base === null) return this.fail('base');
    const fields = new Fields({ ...base });
    const copyId = fields.uuid('copyId');
    const ofBase = fields.number('generation');
    return ofBase < generation
      ? { level, base: { copyId, generation: ofBase } }
      : this.fail('base');
  }

  /** The group backup that it is a part of. */
  group(): Pick<BackupRecord, 'group'> {
    const group: unknown = this.#manifest['group'] ?? null;
    if (group === null) return {};
    if (typeof group !== 'object') return this.fail('group');
    const fields = new Fields({ ...group });
    const members = groupMembersOf(fields.#manifest['members']);
    if (members === undefined || members.length > GROUP_DISKS_MAX) return this.fail('group');
    return { group: { id: fields.uuid('id'), name: fields.text('name'), members } };
  }

  labels(): Labels {
    const value = this.#manifest['labels'] ?? {};
    if (typeof value !== 'object') return this.fail('labels');
    const pairs = Object.entries(value).slice(0, 64);
    return Object.fromEntries(pairs.map(([key, text]) => [key, String(text).slice(0, 255)]));
  }
}
