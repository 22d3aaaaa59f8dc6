/**
 * Targets and backups as they are remembered: records, and their rows. Pure.
 */
import type { Row, RowChange } from '../pool/metadata-store.ts';
import { DEFAULT_BUFFER_BYTES } from '../target/tape-target.ts';

export type Labels = Readonly<Record<string, string>>;

export const targetKinds = ['directory', 'tape', 'virtual-tape'] as const;
export type TargetKind = (typeof targetKinds)[number];

/** What loads the drive of a target. */
export interface TargetChanger {
  /** Path of its device; `virtual`: that of the virtual library. */
  readonly device: string;
  /** Number of the target's drive in it. */
  readonly drive: number;
}

export interface TargetRecord {
  readonly id: string;
  name: string;
  readonly kind: TargetKind;
  /** Absolute, without links: a directory, or a device. */
  readonly path: string;
  /** Of the cartridges; null of a directory. */
  readonly set: string | null;
  /** Memory between the source and the drive; null of a directory. */
  bufferBytes: number | null;
  /** Null: cartridges are loaded by hand. */
  changer: TargetChanger | null;
  labels: Labels;
  readonly creation: string;
  version: number;
  readonly createdAtMs: number;
}

/** `creating`: its job has not ended. `incomplete`: it cannot be restored and only be deleted. */
export type BackupState = 'creating' | 'complete' | 'incomplete' | 'damaged';

/** `incremental`: only what differs from another copy is in it. */
export type BackupLevel = 'full' | 'incremental';

/** The copy that an incremental backup is built on: any backup of it serves. */
export interface BaseRef {
  readonly copyId: string;
  /** Lower than the generation of what is built on it. */
  readonly generation: number;
}

/** A backup of a group backup, as each of them knows it. */
export interface BackupGroupMember {
  /** On the medium. */
  readonly name: string;
  readonly imageId: string;
  readonly diskId: string;
  /** Name of the disk at the freeze. */
  readonly disk: string;
}

/** The backups of copies that were frozen at one instant, made by one job. */
export interface BackupGroup {
  readonly id: string;
  readonly name: string;
  /** All of them, in the order of the group. */
  readonly members: readonly BackupGroupMember[];
}

export interface BackupRecord {
  readonly id: string;
  name: string;
  readonly targetId: string;
  /** Its name on the medium. */
  readonly mediumName: string;
  readonly imageId: string;
  readonly copyId: string;
  /** Empty: it was frozen for the backup alone. */
  readonly copyName: string;
  readonly diskId: string;
  readonly diskName: string;
  readonly generation: number;
  readonly frozenAtMs: number;
  readonly level: BackupLevel;
  /** Null: it is a full backup. */
  readonly base: BaseRef | null;
  state: BackupState;
  mediumBytes: number;
  /** Used blocks of the copy. */
  readonly usedBytes: number;
  /** Blocks in this image; of an incremental 0 until its job has compared. */
  dataBytes: number;
  readonly sourceCapacityBytes: number;
  readonly blockSizeBytes: number;
  labels: Labels;
  job: string | null;
  verifiedAtMs: number | null;
  version: number;
  readonly createdAtMs: number;
  /** Absent: it was made by itself. */
  readonly group?: BackupGroup;
}

export function targetRow(record: TargetRecord): RowChange {
  return {
    table: 'targets',
    key: { id: record.id },
    row: {
      name: record.name,
      kind: record.kind,
      settings: JSON.stringify({
        path: record.path,
        ...(record.set === null ? {} : { set: record.set }),
        ...(record.bufferBytes === null ? {} : { bufferBytes: record.bufferBytes }),
        ...(record.changer === null
          ? {}
          : { changer: record.changer.device, changerDrive: record.changer.drive }),
      }),
      labels: JSON.stringify(record.labels),
      creation: record.creation,
      version: record.version,
      created_at: record.createdAtMs,
    },
  };
}

export function readTarget(row: Row): TargetRecord {
  const settings = objectOf(row['settings']);
  const set = textOf(settings, 'set');
  const kind = targetKinds.find((each) => each === row['kind']) ?? 'directory';
  return {
    id: String(row['id']),
    name: String(row['name']),
    kind,
    path: textOf(settings, 'path'),
    set: set === '' ? null : set,
    bufferBytes: kind === 'directory' ? null : bufferOf(settings),
    changer: changerOf(settings),
    labels: labelsOf(row['labels']),
    creation: String(row['creation']),
    version: Number(row['version']),
    createdAtMs: Number(row['created_at']),
  };
}

/** Rows of before there was one have none. */
function bufferOf(settings: Readonly<Record<string, unknown>>): number {
  const { bufferBytes } = settings;
  return typeof bufferBytes === 'number' ? bufferBytes : DEFAULT_BUFFER_BYTES;
}

export function backupRow(record: BackupRecord): RowChange {
  return {
    table: 'backups',
    key: { id: record.id },
    row: {
      name: record.name,
      target: record.targetId,
      medium_name: record.mediumName,
      image_id: record.imageId,
      copy_id: record.copyId,
      copy_name: record.copyName,
      disk_id: record.diskId,
      disk_name: record.diskName,
      generation: record.generation,
      frozen_at: record.frozenAtMs,
      level: record.level,
      state: record.state,
      medium_bytes: record.mediumBytes,
      used_bytes: record.usedBytes,
      source_capacity_bytes: record.sourceCapacityBytes,
      block_size_bytes: record.blockSizeBytes,
      labels: JSON.stringify(record.labels),
      job: record.job,
      verified_at: record.verifiedAtMs,
      version: record.version,
      created_at: record.createdAtMs,
      base_copy_id: record.base?.copyId ?? null,
      base_generation: record.base?.generation ?? null,
      data_bytes: record.dataBytes,
      group_id: record.group?.id ?? null,
      group_name: record.group?.name ?? null,
      group_members: record.group === undefined ? null : JSON.stringify(record.group.members),
    },
  };
}

export function readBackup(row: Row): BackupRecord {
  const state = row['state'];
  const known = state === 'creating' || state === 'complete' || state === 'damaged';
  return {
    id: String(row['id']),
    name: String(row['name']),
    targetId: String(row['target']),
    mediumName: String(row['medium_name']),
    imageId: String(row['image_id']),
    copyId: String(row['copy_id']),
    copyName: String(row['copy_name']),
    diskId: String(row['disk_id']),
    diskName: String(row['disk_name']),
    generation: Number(row['generation']),
    frozenAtMs: Number(row['frozen_at']),
    level: row['level'] === 'incremental' ? 'incremental' : 'full',
    base: readBase(row),
    state: known ? state : 'incomplete',
    mediumBytes: Number(row['medium_bytes']),
    usedBytes: Number(row['used_bytes']),
    // rows of before it was kept are of full backups
    dataBytes: Number(row['data_bytes'] ?? row['used_bytes']),
    sourceCapacityBytes: Number(row['source_capacity_bytes']),
    blockSizeBytes: Number(row['block_size_bytes']),
    labels: labelsOf(row['labels']),
    job: row['job'] === null ? null : String(row['job']),
    verifiedAtMs: row['verified_at'] === null ? null : Number(row['verified_at']),
    version: Number(row['version']),
    createdAtMs: Number(row['created_at']),
    ...readGroup(row),
  };
}

function readGroup(row: Row): Pick<BackupRecord, 'group'> {
  const id = row['group_id'] ?? null;
  if (id === null) return {};
  const members = groupMembersOf(JSON.parse(String(row['group_members'] ?? null)));
  if (members === undefined) return {};
  return { group: { id: String(id), name: String(row['group_name']), members } };
}

/** Undefined if it is not a list of members. */
export function groupMembersOf(value: unknown): BackupGroupMember[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const members = value.map((each: unknown) => {
    const object = typeof each === 'object' && each !== null ? { ...each } : {};
    const [name, imageId] = [textOf(object, 'name'), textOf(object, 'imageId')];
    return { name, imageId, diskId: textOf(object, 'diskId'), disk: textOf(object, 'disk') };
  });
  return members.every(({ name, imageId }) => name !== '' && imageId !== '') ? members : undefined;
}

function readBase(row: Row): BaseRef | null {
  const copyId = row['base_copy_id'] ?? null;
  if (copyId === null) return null;
  return {
    copyId: String(copyId),
    generation: Number(row['base_generation']),
  };
}

/** JSON text as an object; anything else as an empty one. */
function changerOf(settings: Readonly<Record<string, unknown>>): TargetChanger | null {
  const device = textOf(settings, 'changer');
  return device === '' ? null : { device, drive: Number(settings['changerDrive']) };
}

export function objectOf(text: unknown): Record<string, unknown> {
  const value: unknown = JSON.parse(String(text));
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

export function textOf(object: Readonly<Record<string, unknown>>, name: string): string {
  const value = object[name];
  return typeof value === 'string' ? value : '';
}

export function labelsOf(text: unknown): Labels {
  return Object.fromEntries(
    Object.entries(objectOf(text)).map(([key, value]) => [key, String(value)]),
  );
}
