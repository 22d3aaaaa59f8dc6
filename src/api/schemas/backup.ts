/** Backups in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  bytes,
  count,
  labelQuery,
  labels,
  newName,
  nullableText,
  nullableTime,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  reference,
  shown,
  text,
  time,
} from './fields.ts';

const level = oneOfThese(['full'], 'How much of the copy is in it.');

export const BackupSchema = shown('Backup', 'One image on a target.', {
  id: text('UUID.'),
  name: text('Name.'),
  target: text('Name of its target.'),
  targetId: text('Id of its target.'),
  imageId: text('UUID of its image.'),
  copy: nullableText('Name of its copy now; null if that is gone.'),
  copyId: text('Id of its copy.'),
  copyName: text('Name of its copy at the time of the backup.'),
  disk: nullableText('Name of the source disk now; null if that is gone.'),
  diskId: text('Id of the source disk.'),
  diskName: text('Name of the source disk at the freeze.'),
  level,
  state: oneOfThese(
    ['creating', 'complete', 'incomplete', 'damaged'],
    '`damaged`: verifying found damage; `incomplete`: its job ended before the end.',
  ),
  mediumBytes: bytes('What it takes on the target'),
  usedBytes: bytes('Used blocks of the copy'),
  sourceCapacityBytes: bytes('Capacity of the source disk'),
  blockSizeBytes: bytes('Size of a block'),
  labels,
  job: nullableText('Id of the job that made it; null if a scan found it.'),
  verifiedAt: nullableTime('When all of it was last proven'),
  version: count('Rises with each change by a client; the ETag names it.'),
  createdAt: time('When it was begun'),
});
export const BackupListSchema = pageSchema(BackupSchema);

export const CreateBackupSchema = asked(
  'CreateBackup',
  'A new backup, of a copy or of a disk (which is frozen for it): exactly one of the two.',
  {
    name: newName('Name, also of its folder on the target'),
    copy: Type.Optional(reference('The copy')),
    disk: Type.Optional(reference('The disk')),
    target: reference('The target'),
    level: Type.Optional(level),
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
});

export const backupSchemas = [BackupSchema, BackupListSchema, CreateBackupSchema];
