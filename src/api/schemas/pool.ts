/** Pools in requests and answers. */
import { Type } from 'typebox';
import { MAX_BLOCK_SIZE_BYTES, MIN_BLOCK_SIZE_BYTES } from '../../base/units.ts';
import {
  asked,
  bytes,
  count,
  flag,
  humanSize,
  listOf,
  newName,
  nullableText,
  oneOfThese,
  pageQuery,
  pageSchema,
  percent,
  query,
  refTo,
  shown,
  text,
  time,
} from './fields.ts';

export const PoolFileSchema = shown('PoolFile', 'A file or raw device that a pool lies in.', {
  path: text('Absolute path.'),
  sizeBytes: bytes('How much of it the pool uses'),
});

const NewPoolFile = asked('NewPoolFile', 'A pool file: path and exactly one form of its size.', {
  path: text('Below the roots; a relative path starts at the first root.', { minLength: 1 }),
  sizeBytes: Type.Optional(bytes('How much to use', 1)),
  size: Type.Optional(humanSize('sizeBytes')),
});

const files = listOf(refTo(NewPoolFile), 'Where the blocks live.', 256);
const moreFiles = listOf(
  refTo(NewPoolFile),
  'Extends the list of files: a new path adds a file, the path of a file of the pool makes it ' +
    'larger (never smaller). Files that are not named stay as they are.',
  256,
);
const lowWaterPercent = percent('Used space from which on the state is `low`, default 80');
const criticalPercent = percent('Used space from which on the state is `critical`, default 95');

export const PoolSchema = shown('Pool', 'Physical storage, cut into blocks of one size.', {
  id: text('UUID.'),
  name: text('Name.'),
  blockSizeBytes: bytes('Size of a block'),
  files: listOf(refTo(PoolFileSchema), 'Where the blocks live.'),
  capacityBytes: bytes('All blocks'),
  allocatedBytes: bytes('Blocks in use'),
  freeBytes: bytes('Blocks that can be allocated'),
  provisionedBytes: bytes('Sum of the capacities of its disks'),
  reservedBytes: bytes('Kept back for disks with a reserve'),
  pendingFreeBytes: bytes('Freed, not reclaimed yet'),
  metadataBytes: bytes('The database, which holds the tables of all pools'),
  lowWaterPercent,
  criticalPercent,
  state: oneOfThese(
    ['ready', 'low', 'critical', 'full', 'poisoned', 'unavailable'],
    'Of its room; `poisoned` after a failed write: reads only until the service is restarted; ' +
      '`unavailable` where its files could not be opened: bring them back and restart the service.',
  ),
  problem: nullableText('Why it is poisoned or unavailable.'),
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was made'),
});
export const PoolListSchema = pageSchema(PoolSchema);

export const CreatePoolSchema = asked('CreatePool', 'A new pool.', {
  name: newName('Name'),
  files,
  blockSizeBytes: Type.Optional(
    Type.Integer({
      description: 'Size of a block, in bytes: a power of two.',
      format: 'int64',
      minimum: MIN_BLOCK_SIZE_BYTES,
      maximum: MAX_BLOCK_SIZE_BYTES,
      default: 65536,
    }),
  ),
  lowWaterPercent: Type.Optional(lowWaterPercent),
  criticalPercent: Type.Optional(criticalPercent),
  preallocate: Type.Optional(flag('Take all room from the file system now. Default true.')),
});

export const UpdatePoolSchema = asked('UpdatePool', 'Changes of a pool; more or larger files.', {
  name: Type.Optional(newName('Name')),
  files: Type.Optional(moreFiles),
  lowWaterPercent: Type.Optional(lowWaterPercent),
  criticalPercent: Type.Optional(criticalPercent),
});

export const PoolQuery = query(pageQuery);
export const poolSchemas = [
  PoolFileSchema,
  NewPoolFile,
  PoolSchema,
  PoolListSchema,
  CreatePoolSchema,
  UpdatePoolSchema,
];
