/** Restores in requests. */
import { Type } from 'typebox';
import {
  asked,
  bytes,
  dryRunQuery,
  flag,
  newName,
  oneOfThese,
  query,
  reference,
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

export const BackupRestoreSchema = asked('BackupRestore', 'A restore from a backup: a job.', {
  method,
  ...parts,
  maxBytesPerSecond,
});

export const RestoreQuery = query(dryRunQuery);

export const UploadQuery = query({
  method: Type.Optional(method),
  ...parts,
  job: Type.Optional(
    text('Go on with the upload of this job; needs `Content-Range`.', { maxLength: 64 }),
  ),
});

export const restoreSchemas = [CopyRestoreSchema, BackupRestoreSchema];
