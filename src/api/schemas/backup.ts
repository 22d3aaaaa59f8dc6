/** Backups in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  bytes,
  count,
  flag,
  labelQuery,
  labels,
  listOf,
  newName,
  nullableText,
  nullableTime,
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

const level = oneOfThese(
  ['full', 'incremental'],
  '`full`: all used blocks of the copy; `incremental`: what differs from its base.',
);

export const BackupBaseSchema = shown('BackupBase', 'The copy that an incremental is built on.', {
  copyId: text('Id of the copy.'),
  generation: count('Generation of the copy.'),
  backup: nullableText('Name of the backup of it that is in the chain; null if there is none.'),
});

export const ChainMemberSchema = shown('ChainMember', 'A backup that a restore reads.', {
  id: text('Its id.'),
  name: text('Its name.'),
});

export const BackupSchema = shown('Backup', 'One image on a target.', {
  id: text('UUID.'),
  name: text('Name.'),
  target: text('Name of its target.'),
  targetId: text('Id of its target.'),
  imageId: text('UUID of its image.'),
  copy: nullableText('Name of its copy now; null if that is gone.'),
  copyId: text('Id of its copy.'),
  copyName: nullableText(
    'Name of its copy at the time of the backup; null: it was frozen for the backup alone.',
  ),
  disk: nullableText('Name of the source disk now; null if that is gone.'),
  diskId: text('Id of the source disk.'),
  diskName: text('Name of the source disk at the freeze.'),
  level,
  base: Type.Union([refTo(BackupBaseSchema), Type.Null()], { description: 'Null: it is full.' }),
  chain: listOf(refTo(ChainMemberSchema), 'What a restore reads: oldest first, this one last.'),
  isChainComplete: flag('False: the backup that the first of the chain needs is not there.'),
  state: oneOfThese(
    ['creating', 'complete', 'incomplete', 'damaged'],
    '`damaged`: verifying found damage, or its image is too short; `incomplete`: its job ended ' +
      'before the end, or its image is not on the target any more.',
  ),
  mediumBytes: bytes('What it takes on the target'),
  usedBytes: bytes('Used blocks of the copy'),
  dataBytes: bytes('Blocks in this image; of an incremental 0 until its job has compared'),
  sourceCapacityBytes: bytes('Capacity of the source disk'),
  blockSizeBytes: bytes('Size of a block'),
  labels,
  group: nullableText('Name of the group backup that it is a part of; null if of none.'),
  groupId: nullableText('Id of that group backup.'),
  job: nullableText('Id of the job that made it; null if a scan found it.'),
  verifiedAt: nullableTime('When all of it was last proven'),
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was begun'),
});
export const BackupListSchema = pageSchema(BackupSchema);

export const CreateBackupSchema = asked(
  'CreateBackup',
  'A new backup, of a copy, of a disk (which is frozen for it) or of a group: exactly one of them.',
  {
    name: newName('Name, also of its folder on the target; those of a group are called NAME-DISK'),
    copy: Type.Optional(reference('The copy')),
    disk: Type.Optional(reference('The disk')),
    group: Type.Optional(reference('The group, all copies of which are backed up by one job')),
    target: reference('The target'),
    level: Type.Optional(level),
    base: Type.Optional(
      reference('Of an incremental: a backup or copy to build on. Default: the newest that suits'),
    ),
    onMissingBase: Type.Optional(
      oneOfThese(['fail', 'full'], 'Of an incremental without a base. Default: `fail`.'),
    ),
    labels: Type.Optional(labels),
    maxBytesPerSecond: Type.Optional(bytes('Rate limit per second', 1)),
  },
);

const { name, target, onMissingBase, maxBytesPerSecond } = CreateBackupSchema.properties;

export const CreateGroupBackupSchema = asked(
  'CreateGroupBackup',
  'A backup of a whole group: one of each copy, called NAME-DISK.',
  {
    name,
    target,
    level: Type.Optional(level),
    onMissingBase,
    labels: Type.Optional(labels),
    maxBytesPerSecond,
  },
);

export const ConsolidateSchema = asked(
  'Consolidate',
  'A full backup made from a chain of backups, on the same target, without the source.',
  {
    name: newName('Name of the new backup, also of its folder on the target'),
    labels: Type.Optional(labels),
    maxBytesPerSecond: Type.Optional(bytes('Rate limit per second', 1)),
  },
);

export const BackupQuery = query({
  ...pageQuery,
  ...labelQuery,
  state: Type.Optional(BackupSchema.properties.state),
  disk: Type.Optional(reference('Only those of this disk, by name or id')),
  target: Type.Optional(reference('Only those on this target, by name or id')),
  group: Type.Optional(reference('Only those of this group backup, by name or id')),
});

export const backupSchemas = [
  BackupBaseSchema,
  ChainMemberSchema,
  BackupSchema,
  BackupListSchema,
  CreateBackupSchema,
  CreateGroupBackupSchema,
  ConsolidateSchema,
];
