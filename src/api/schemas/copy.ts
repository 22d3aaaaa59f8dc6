/** Copies in requests and answers. */
import { Type } from 'typebox';
import { exclusiveQuery, UserSchema } from './disk.ts';
import {
  asked,
  bytes,
  count,
  labelQuery,
  labels,
  listOf,
  newName,
  nullableRefTo,
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
import { AllocationQuery, maxResults } from './disk.ts';

const layout = oneOfThese(
  ['compact', 'full'],
  'Default view: only the used blocks, packed; or the source’s whole address range.',
);
const placement = oneOfThese(
  ['shared', 'dedicated'],
  'The blocks are those of the source; or the copy’s own, filled in the background.',
);
const preserves = ['redirect', 'copy-first'] as const;
const preserve = oneOfThese(
  preserves,
  'When the source updates a block that it still owes a dedicated copy: it writes to another ' +
    'place; or the block is brought over first, and the source overwrites it where it is.',
);
const preserveErrors = ['fail-write', 'invalidate-copy'] as const;
const onPreserveError = oneOfThese(
  preserveErrors,
  'If such a block cannot be preserved: the write fails; or the copy becomes invalid.',
);

const CopyProblem = shown('CopyProblem', 'Why a copy is invalid.', {
  code: text('Stable code for programs, explained in docs/errors.md.'),
  detail: text('What happened, for a person.'),
});

export const CopySchema = shown('Copy', 'A read-only point-in-time copy of a disk.', {
  id: text('UUID.'),
  name: text('Name, unique among disks, copies and groups.'),
  disk: nullableText('Name of its source now; null if that was deleted.'),
  diskId: text('Id of its source.'),
  diskName: text('Name of its source at the freeze.'),
  pool: text('Name of its pool.'),
  poolId: text('Id of its pool.'),
  layout,
  placement,
  state: oneOfThese(
    ['ready', 'invalid'],
    'An invalid copy has lost a block before it could be brought over: it is never served.',
  ),
  owedBlocks: count('Blocks of a dedicated copy that are still in the pool of its source.'),
  preserve: nullableText('Of a dedicated copy: `redirect` or `copy-first`.'),
  onPreserveError: nullableText('Of a dedicated copy: `fail-write` or `invalidate-copy`.'),
  job: nullableText('Job that fills a dedicated copy, by id; null if none does.'),
  problem: nullableRefTo(CopyProblem, 'Why it is invalid.'),
  generation: count('Orders the copies of a store.'),
  usedBlocks: count('Mapped blocks of the source at the freeze.'),
  blockSizeBytes: bytes('Size of a block'),
  capacityBytes: bytes('Of its layout: usedBlocks × blockSizeBytes, or that of the source'),
  sourceCapacityBytes: bytes('Capacity of the source at the freeze'),
  imageBytes: bytes('Length of its image'),
  imageId: text('UUID of its image, also its ETag.'),
  exclusiveBytes: Type.Optional(
    bytes('What deleting it now would free; in lists with `exclusive=true`'),
  ),
  haltMicroseconds: count('How long writing was halted for the freeze, in microseconds.'),
  labels,
  group: nullableText('Name of the group that it was frozen with; null if it was frozen alone.'),
  groupId: nullableText('Id of that group.'),
  users: listOf(refTo(UserSchema), 'Who is reading it.'),
  version: count('Rises with each change by a client; the ETag names it.'),
  frozenAt: time('The moment that it shows'),
});
export const CopyListSchema = pageSchema(CopySchema);

export const CreateCopySchema = asked('CreateCopy', 'Freeze a disk.', {
  name: newName('Name'),
  layout: Type.Optional(layout),
  placement: Type.Optional(placement),
  pool: Type.Optional(
    reference('Dedicated: pool of its blocks, by name or id; default: the source’s'),
  ),
  preserve: Type.Optional(preserve),
  onPreserveError: Type.Optional(onPreserveError),
  maxBytesPerSecond: Type.Optional(bytes('Dedicated: rate limit per second of filling it', 1)),
  labels: Type.Optional(labels),
});

export const UpdateCopySchema = asked('UpdateCopy', 'Changes of a copy.', {
  name: Type.Optional(newName('Name')),
  labels: Type.Optional(labels),
});

export const CopyQuery = query({
  ...pageQuery,
  ...labelQuery,
  ...exclusiveQuery,
  disk: Type.Optional(reference('Only those of this disk, by name or id')),
});

export const DiskCopyQuery = query({ ...pageQuery, ...labelQuery, ...exclusiveQuery });

export const CopyReadQuery = query({
  view: Type.Optional(layout),
  offset: Type.Optional(bytes('Where to begin; any byte')),
  length: Type.Optional(bytes('How much; default: to the end', 1)),
});

export const CorrespondenceRunSchema = shown(
  'CorrespondenceRun',
  'A run of blocks: copyBlock + i of the copy is sourceBlock + i of the disk.',
  {
    copyBlock: count('First block in the copy (X).'),
    sourceBlock: count('First block in the source (A).'),
    length: count('Blocks in the run.'),
  },
);

export const CorrespondenceSchema = shown(
  'Correspondence',
  'The correspondence table, ascending.',
  {
    items: listOf(refTo(CorrespondenceRunSchema), 'The runs.'),
    nextPageToken: nullableText('`pageToken` of the next page; null after the last.'),
  },
);

export const DataBlockRunSchema = shown(
  'DataBlockRun',
  'A run of blocks of one state: copyBlock + i of the copy is sourceBlock + i of the disk.',
  {
    copyBlock: count('First block in the copy (X).'),
    sourceBlock: count('First block in the source (A).'),
    length: count('Blocks in the run.'),
    state: oneOfThese(
      ['shared', 'owed', 'settled'],
      'The source’s for as long as the copy lives; the source’s until it is brought over; its own.',
    ),
  },
);

export const DataBlocksSchema = shown('DataBlocks', 'The data block table, ascending.', {
  items: listOf(refTo(DataBlockRunSchema), 'The runs.'),
  nextPageToken: nullableText('`pageToken` of the next page; null after the last.'),
});

export const CorrespondenceQuery = query({ ...pageQuery, maxResults });

export const ChangedRangeSchema = shown('ChangedRange', 'A range that differs.', {
  byteOffset: bytes('Where it begins'),
  sizeBytes: bytes('How long it is'),
  kind: oneOfThese(
    ['data', 'zero'],
    'Allocated in this copy: read it there; or not: it is zeros, and has no data.',
  ),
});

export const ChangesSchema = shown('Changes', 'What changed, in ascending order.', {
  blockSizeBytes: bytes('Unit of changes'),
  capacityBytes: bytes('Where the address range of this copy ends'),
  items: listOf(
    refTo(ChangedRangeSchema),
    'The ranges. Beyond the end of `since` whatever is not data is `zero`.',
  ),
  nextPageToken: nullableText('`pageToken` of the next page; null after the last.'),
});

export const ChangesQuery = query({
  ...AllocationQuery.properties,
  since: text(
    'Copy to compare with: its name or id, or the id of one that was backed up and then deleted.',
    { minLength: 1, maxLength: 255 },
  ),
});

export const copySchemas = [
  CopyProblem,
  CopySchema,
  CopyListSchema,
  CreateCopySchema,
  UpdateCopySchema,
  CorrespondenceRunSchema,
  CorrespondenceSchema,
  DataBlockRunSchema,
  DataBlocksSchema,
  ChangedRangeSchema,
  ChangesSchema,
];
