/** Restores in requests. */
import { Type } from 'typebox';
import { GROUP_DISKS_MAX } from '../../copy/group-plan.ts';
import { DiskSchema } from './disk.ts';
import {
  asked,
  bytes,
  dryRunQuery,
  flag,
  listOf,
  newName,
  oneOfThese,
  query,
  reference,
  refTo,
  shown,
  text,
} from './fields.ts';

const method = oneOfThese(
  ['copy', 'remap', 'write-back'],
  'Back as a compact copy, as a new disk of the original capacity, or into a working disk.',
);

const parts = {
  disk: Type.Optional(
    text('Name of the new disk (remap), or name or id of the working disk (write-back).', {
      minLength: 1,
      maxLength: 255,
    }),
  ),
  copy: Type.Optional(newName('Name of the new copy, for the method `copy`')),
  pool: Type.Optional(reference('Pool for what is made; default: `default`')),
  safetyCopy: Type.Optional(
    newName('Of a write-back: name of a copy that keeps what was on the disk before'),
  ),
  onlyDiffering: Type.Optional(flag('Of a write-back: write only blocks that differ.')),
  onDamage: Type.Optional(
    oneOfThese(['fail', 'skip'], 'Stop at damage (default), or go around it and list it.'),
  ),
  keepPartial: Type.Optional(
    flag('Of a write-back that fails: leave what was written instead of going back.'),
  ),
  force: Type.Optional(flag('End the users of the disk first instead of refusing with 409.')),
};

const maxBytesPerSecond = Type.Optional(bytes('Rate limit per second', 1));

export const CopyRestoreSchema = asked(
  'CopyRestore',
  'A restore from a live copy: at once as a new disk (remap), or as a job (write-back).',
  {
    method: oneOfThese(['remap', 'write-back'], 'A new disk, or into a working disk.'),
    disk: text('Name of the new disk (remap), or name or id of the working disk (write-back).', {
      minLength: 1,
      maxLength: 255,
    }),
    safetyCopy: parts.safetyCopy,
    onlyDiffering: parts.onlyDiffering,
    keepPartial: parts.keepPartial,
    force: parts.force,
    maxBytesPerSecond,
  },
);

export const GroupTargetSchema = asked('GroupTarget', 'Where a disk of a group goes.', {
  disk: reference('The disk: its name at the freeze, or id'),
  to: text('Name of the new disk (remap), or name or id of the working disk (write-back).', {
    minLength: 1,
    maxLength: 255,
  }),
});

const groupParts = {
  name: Type.Optional(newName('Remap of a group: its disks are called NAME-DISK')),
  disks: Type.Optional(
    listOf(
      refTo(GroupTargetSchema),
      'Of a group: disks that go elsewhere than to NAME-DISK (remap) or their source (write-back).',
      GROUP_DISKS_MAX,
    ),
  ),
};

export const BackupRestoreSchema = asked(
  'BackupRestore',
  'A restore from a backup, or from all backups of a group backup: a job.',
  { method, ...parts, ...groupParts, maxBytesPerSecond },
);

export const GroupRestoreSchema = asked(
  'GroupRestore',
  'A restore from the live copies of a group: at once as new disks (remap), or as a job ' +
    '(write-back).',
  {
    method: oneOfThese(['remap', 'write-back'], 'New disks, or into working disks.'),
    ...groupParts,
    safetyCopy: Type.Optional(
      newName('Of a write-back: what was on a disk before stays as the copy SAFETYCOPY-DISK'),
    ),
    force: Type.Optional(flag('End the users of the disks first instead of refusing with 409.')),
    maxBytesPerSecond,
  },
);

export const RestoredDisksSchema = shown('RestoredDisks', 'The new disks of a group.', {
  disks: listOf(refTo(DiskSchema), 'In the order of the group.'),
});

export const RestoreQuery = query(dryRunQuery);

export const UploadQuery = query({
  method: Type.Optional(method),
  ...parts,
  job: Type.Optional(
    text('Go on with the upload of this job; needs `Content-Range`.', { maxLength: 64 }),
  ),
});

export const restoreSchemas = [
  CopyRestoreSchema,
  GroupTargetSchema,
  BackupRestoreSchema,
  GroupRestoreSchema,
  RestoredDisksSchema,
];
