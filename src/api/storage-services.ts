/**
 * Pools, disks and copies as the routes need them. The engine's classes fit as they are.
 */
import type { RateLimit } from '../base/rate-limit.ts';
import type { Job } from '../job/job.ts';
import type { Effects, ForceOption, Labels, Rename, User } from './service-types.ts';

export interface PoolFile {
  readonly path: string;
  readonly sizeBytes: number;
}

export interface Pool {
  readonly id: string;
  readonly name: string;
  readonly blockSizeBytes: number;
  readonly files: readonly PoolFile[];
  readonly capacityBytes: number;
  readonly allocatedBytes: number;
  readonly freeBytes: number;
  readonly provisionedBytes: number;
  readonly reservedBytes: number;
  readonly pendingFreeBytes: number;
  readonly metadataBytes: number;
  readonly lowWaterPercent: number;
  readonly criticalPercent: number;
  readonly state: 'ready' | 'low' | 'critical' | 'full' | 'poisoned' | 'unavailable';
  /** Why it is poisoned or unavailable. */
  readonly problem: string | null;
  readonly version: number;
  readonly createdAtMs: number;
}

export interface CreatePool {
  readonly name: string;
  readonly files: readonly PoolFile[];
  readonly blockSizeBytes?: number;
  readonly lowWaterPercent?: number;
  readonly criticalPercent?: number;
  readonly preallocate?: boolean;
}

export interface UpdatePool {
  readonly name?: string;
  readonly files?: readonly PoolFile[];
  readonly lowWaterPercent?: number;
  readonly criticalPercent?: number;
}

export interface PoolMade {
  readonly pool: Pool;
  /** False if it existed with the same parameters. */
  readonly created: boolean;
}

export interface Pools {
  create(request: CreatePool, effects?: Effects<Pool>): Promise<PoolMade>;
  /** @throws NOT_FOUND */
  get(ref: string): Pool;
  list(): readonly Pool[];
  update(ref: string, change: UpdatePool): Promise<Pool>;
  /** @throws POOL_IN_USE while a disk or copy lives in it */
  delete(ref: string): Promise<void>;
}

export interface AllocatedRun {
  readonly block: number;
  readonly length: number;
  readonly physicalBlock?: number;
}

export interface Disk {
  readonly id: string;
  readonly name: string;
  readonly pool: { readonly id: string; readonly name: string; readonly freeBytes: number };
  readonly capacityBytes: number;
  readonly blockSizeBytes: number;
  readonly labels: Labels;
  readonly detectZeroes: boolean;
  readonly reserveBytes: number;
  readonly usedBytes: number;
  readonly quotaBytes: number | null;
  readonly maxBytesPerSecond: number | null;
  /** Asked before bytes are moved by data requests. */
  readonly rate: RateLimit;
  readonly state: 'ready' | 'fenced' | 'restoring';
  readonly fencedBy?: string | undefined;
  readonly version: number;
  readonly createdAtMs: number;
  users(): readonly User[];
  /** @throws DISK_FENCED; the answer is the release, called when the user touches it no more */
  addUser(user: User): () => void;
  read(offset: number, into: Uint8Array): Promise<void>;
  /** At most 4 MiB, all or nothing; volatile until `flush`. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  allocatedRuns(
    fromBlock: number,
    maxRuns: number,
    physical: boolean,
  ): Promise<{ readonly runs: readonly AllocatedRun[]; readonly next?: number }>;
  /** What deleting the disk now would free. Walks its table. */
  exclusiveBytes(): Promise<number>;
  /** What discarding this range now would free. */
  exclusiveBytesIn(offset: number, length: number): Promise<number>;
}

export interface CreateDisk {
  readonly name: string;
  readonly pool?: string;
  readonly capacityBytes: number;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
}

export interface UpdateDisk {
  readonly name?: string;
  readonly capacityBytes?: number;
  /** Drops data beyond a smaller capacity instead of refusing. */
  readonly discard?: boolean;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
  /** Null: no limit. */
  readonly quotaBytes?: number | null;
  readonly maxBytesPerSecond?: number | null;
}

export interface DiskMade {
  readonly disk: Disk;
  readonly created: boolean;
}

export interface Disks {
  create(request: CreateDisk, effects?: Effects<Disk>): Promise<DiskMade>;
  get(ref: string): Disk;
  list(): readonly Disk[];
  update(ref: string, change: UpdateDisk): Promise<Disk>;
  delete(ref: string, options: ForceOption): Promise<void>;
}

export type CopyLayout = 'compact' | 'full';
export type CopyPlacement = 'shared' | 'dedicated';

export interface CorrespondenceRun {
  readonly copyBlock: number;
  readonly sourceBlock: number;
  readonly length: number;
}

export interface DataBlockRun {
  readonly copyBlock: number;
  readonly sourceBlock: number;
  readonly length: number;
  readonly state: 'shared' | 'owed' | 'settled';
}

/** Of a copy of placement `dedicated`. */
export interface DedicatedFacts {
  readonly preserve: 'redirect' | 'copy-first';
  readonly onPreserveError: 'fail-write' | 'invalidate-copy';
  /** Blocks that are still in the source's pool. */
  readonly owedBlocks: number;
  /** Job that brings them over, null if none does. */
  readonly job: string | null;
  /** Why the copy is invalid. */
  readonly problem: { readonly code: string; readonly detail: string } | null;
}

export interface Copy {
  readonly id: string;
  readonly name: string;
  /** `invalid`: a block could not be preserved; all that reads it throws COPY_INVALID. */
  readonly state: 'ready' | 'invalid';
  /** null: placement `shared`. */
  readonly dedicated: DedicatedFacts | null;
  readonly diskId: string;
  /** Name of the source disk now, null if it was deleted. */
  readonly disk: string | null;
  /** Name of the source disk at the freeze. */
  readonly diskName: string;
  readonly pool: { readonly id: string; readonly name: string };
  readonly layout: CopyLayout;
  readonly placement: CopyPlacement;
  readonly generation: number;
  readonly blockSizeBytes: number;
  readonly usedBlocks: number;
  readonly capacityBytes: number;
  readonly sourceCapacityBytes: number;
  readonly frozenAtMs: number;
  readonly haltMicroseconds: number;
  readonly labels: Labels;
  /** Name and id of the group that it was frozen with; null if it was frozen alone. */
  readonly group: string | null;
  readonly groupId: string | null;
  readonly version: number;
  users(): readonly User[];
  addUser(user: User): () => void;
  read(view: CopyLayout, offset: number, into: Uint8Array): Promise<void>;
  correspondence(
    fromX: number,
    maxRuns: number,
  ): Promise<{ readonly runs: readonly CorrespondenceRun[]; readonly next?: number }>;
  /** Where each block is, as it is now. */
  dataBlocks(
    fromX: number,
    maxRuns: number,
  ): Promise<{ readonly runs: readonly DataBlockRun[]; readonly next?: number }>;
  /** What deleting the copy now would free. Walks its table. */
  exclusiveBytes(): Promise<number>;
}

export interface FreezeRequest {
  readonly name: string;
  readonly layout?: CopyLayout;
  readonly placement?: CopyPlacement;
  /** These only with placement `dedicated`. */
  readonly pool?: string;
  readonly preserve?: DedicatedFacts['preserve'];
  readonly onPreserveError?: DedicatedFacts['onPreserveError'];
  readonly maxBytesPerSecond?: number;
  readonly labels?: Labels;
}

/** A disk made from a copy; the capacity is the source's. */
export interface RemapRequest {
  readonly disk: string;
  readonly labels?: Labels;
  readonly detectZeroes?: boolean;
  readonly reserveBytes?: number;
}

/** Blocks that differ: `data` is mapped in the newer copy, `zero` is not. */
export interface ChangedRun {
  readonly block: number;
  readonly length: number;
  readonly kind: 'data' | 'zero';
}

/** What changed in a copy since another one. */
export interface CopyChanges {
  readonly blockSizeBytes: number;
  /** Of the newer copy's source: no change lies beyond. */
  readonly capacityBytes: number;
  /** Ascending. @throws NOT_FOUND if one of the two was deleted meanwhile */
  runs(
    fromBlock: number,
    maxRuns: number,
  ): Promise<{ readonly runs: readonly ChangedRun[]; readonly next?: number }>;
}

export interface Copies {
  /** Of the blocks that dedicated copies were filled with since the start. */
  readonly contiguity: { readonly blocks: number; readonly runs: number };
  freeze(diskRef: string, request: FreezeRequest, effects?: Effects<Copy>): Promise<Copy>;
  get(ref: string): Copy;
  list(filter?: { readonly disk?: string }): readonly Copy[];
  update(ref: string, change: Rename): Promise<Copy>;
  delete(ref: string, options: ForceOption): Promise<void>;
  /**
   * Brings over what a dedicated copy is owed; answers the job that does so, if there is one.
   * @throws JOB_STATE if nothing is owed; COPY_INVALID
   */
  fill(ref: string, effects?: Effects<Job>): Promise<Job>;
  /** The same request again answers the disk there is. @throws NOT_FOUND, NAME_TAKEN … */
  createDisk(copyRef: string, request: RemapRequest, effects?: Effects<Disk>): Promise<DiskMade>;
  /**
   * @param sinceRef name or id of a copy, or the id of one that was deleted after it was backed up
   * @throws NOT_FOUND, COPIES_UNRELATED
   */
  changes(copyRef: string, sinceRef: string): CopyChanges;
}

/** A copy of a group. */
export interface GroupMember {
  readonly copyId: string;
  /** As it is now, or as it was at the freeze if the copy is gone. */
  readonly copyName: string;
  readonly diskId: string;
  readonly diskName: string;
  /** Name of the source disk now, null if it was deleted. */
  readonly disk: string | null;
  /** Null once it was deleted. */
  readonly copy: Copy | null;
}

/** Copies that were frozen at one instant. */
export interface Group {
  readonly id: string;
  readonly name: string;
  readonly members: readonly GroupMember[];
  readonly haltMicroseconds: number;
  readonly labels: Labels;
  readonly version: number;
  readonly frozenAtMs: number;
}

export interface FreezeGroupRequest {
  readonly name: string;
  /** By name or id, 1 to 64, in the order of the answer; `copy` names the copy of a disk. */
  readonly disks: readonly (string | { readonly disk: string; readonly copy?: string })[];
  readonly layout?: CopyLayout;
  readonly labels?: Labels;
}

export interface Groups {
  /** @throws VALIDATION_FAILED and NAME_INVALID with `field` as `disks/N`, NAME_TAKEN … */
  freeze(request: FreezeGroupRequest, effects?: Effects<Group>): Promise<Group>;
  get(ref: string): Group;
  list(): readonly Group[];
  /** With all its copies, or none. @throws COPY_IN_USE */
  delete(ref: string, options: ForceOption): Promise<void>;
}

/** The image of a copy: the same bytes for ever. */
export interface CopyImage {
  readonly imageId: string;
  readonly imageBytes: number;
  /** Bytes `from` … `to - 1` in order; a slice is valid until the next one is asked for. */
  read(from: number, to: number): AsyncIterable<Uint8Array>;
}

export interface Images {
  of(copy: Copy): CopyImage;
}
