/** Disks and their data in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  bytes,
  capacity,
  count,
  flag,
  humanSize,
  labelQuery,
  labels,
  listOf,
  newName,
  nullableBytes,
  nullableText,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  reference,
  refTo,
  shown,
  text,
  time,
} from './fields.ts';

export const UserSchema = shown('User', 'Who uses a disk or copy right now.', {
  kind: text('`http-write`, `http-discard`, `http-read`, `job` …'),
  id: text('Request id or job id.'),
  since: time('Since when'),
});

const reserveBytes = bytes('Kept back in the pool for rewriting while copies exist');
const detectZeroes = flag('Whole blocks of zeros in a write are not allocated. Default true.');

export const DiskSchema = shown('Disk', 'A thin virtual disk.', {
  id: text('UUID.'),
  name: text('Name, unique among disks and copies.'),
  pool: text('Name of its pool.'),
  poolId: text('Id of its pool.'),
  capacityBytes: bytes('What a server sees'),
  blockSizeBytes: bytes('Unit of allocation'),
  usedBytes: bytes('Mapped blocks'),
  exclusiveBytes: Type.Optional(
    bytes('What deleting it now would free; in lists with `exclusive=true`'),
  ),
  reserveBytes,
  detectZeroes,
  labels,
  state: oneOfThese(['ready', 'fenced', 'restoring'], 'Data requests need `ready`.'),
  job: nullableText('Id of the job that fences or fills it.'),
  users: listOf(refTo(UserSchema), 'Who is writing to it.'),
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was made'),
});
export const DiskListSchema = pageSchema(DiskSchema);

export const CreateDiskSchema = asked(
  'CreateDisk',
  'A new disk: exactly one of `capacityBytes`, `capacity` and `fromCopy`.',
  {
    name: newName('Name'),
    pool: Type.Optional(reference('Pool; default: `default`; not with `fromCopy`')),
    capacityBytes: Type.Optional(capacity('What a server sees')),
    capacity: Type.Optional(humanSize('capacityBytes')),
    fromCopy: Type.Optional(reference('A copy to begin with, at its source’s capacity')),
    labels: Type.Optional(labels),
    detectZeroes: Type.Optional(detectZeroes),
    reserveBytes: Type.Optional(reserveBytes),
  },
);

export const UpdateDiskSchema = asked('UpdateDisk', 'Changes of a disk.', {
  name: Type.Optional(newName('Name')),
  capacityBytes: Type.Optional(capacity('New capacity')),
  capacity: Type.Optional(humanSize('capacityBytes')),
  discard: Type.Optional(flag('Drop the data beyond a smaller capacity. Default: 409.')),
  labels: Type.Optional(labels),
  detectZeroes: Type.Optional(detectZeroes),
  reserveBytes: Type.Optional(reserveBytes),
});

const maxBytesPerSecond = nullableBytes('For data requests per second, reads and writes', 4096);
const quotaBytes = nullableBytes('Most that it may map');

export const LimitsSchema = shown('Limits', 'What a disk may use. Null: no limit.', {
  disk: text('Name of the disk.'),
  diskId: text('Id of the disk.'),
  maxBytesPerSecond,
  quotaBytes,
  usedBytes: bytes('What it has mapped: counts for the quota'),
});

export const SetLimitsSchema = asked('SetLimits', 'All limits of a disk; one left out is none.', {
  maxBytesPerSecond: Type.Optional(maxBytesPerSecond),
  quotaBytes: Type.Optional(quotaBytes),
});

export const exclusiveQuery = {
  exclusive: Type.Optional(flag('Also tell `exclusiveBytes` of each, which costs a walk.')),
} as const;

export const DiskQuery = query({
  ...pageQuery,
  ...labelQuery,
  ...exclusiveQuery,
  pool: Type.Optional(reference('Only those in this pool')),
});

export const AllocationRangeSchema = shown('AllocationRange', 'An allocated range.', {
  byteOffset: bytes('Where it begins'),
  sizeBytes: bytes('How long it is'),
  physicalBlock: Type.Optional(
    count('With `physical=true`: index of its first block in the pool; the others follow.'),
  ),
});

export const AllocationSchema = shown('Allocation', 'Allocated ranges in ascending order.', {
  blockSizeBytes: bytes('Unit of allocation'),
  capacityBytes: bytes('Where the address range ends'),
  items: listOf(refTo(AllocationRangeSchema), 'The ranges.'),
  nextPageToken: nullableText('`pageToken` of the next page; null after the last.'),
});

/** The spelling of CSI's GetMetadataAllocated. */
export const maxResults = Type.Optional(
  Type.Integer({
    description: 'Most ranges in one page, instead of `pageSize`.',
    minimum: 1,
    maximum: 10_000,
  }),
);

export const AllocationQuery = query({
  ...pageQuery,
  startingOffset: Type.Optional(bytes('Where to begin, instead of `pageToken`')),
  maxResults,
});

export const DiskAllocationQuery = query({
  ...AllocationQuery.properties,
  physical: Type.Optional(flag('Also tell where each range lies in the pool.')),
});

const offset = bytes('Where to begin; any byte');

export const ReadQuery = query({
  offset: Type.Optional(offset),
  length: Type.Optional(bytes('How much; default: to the end', 1)),
});

export const WriteQuery = query({
  offset: Type.Optional(offset),
  durability: Type.Optional(
    oneOfThese(
      ['durable', 'volatile'],
      'When to answer: once it is on stable storage (default), or once it can be read.',
    ),
  ),
});

export const DiscardQuery = query({
  offset: Type.Optional(offset),
  length: Type.Optional(bytes('How much', 1)),
  dryRun: Type.Optional(flag('Only tell what it would free: 200 with WouldFree.')),
});

export const diskSchemas = [
  UserSchema,
  DiskSchema,
  DiskListSchema,
  CreateDiskSchema,
  UpdateDiskSchema,
  LimitsSchema,
  SetLimitsSchema,
  AllocationRangeSchema,
  AllocationSchema,
];
