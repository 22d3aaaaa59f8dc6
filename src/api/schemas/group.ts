/** Groups in requests and answers. */
import { Type } from 'typebox';
import { GROUP_DISKS_MAX } from '../../copy/group-plan.ts';
import {
  asked,
  bytes,
  count,
  labelQuery,
  labels,
  listOf,
  newName,
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

export const GroupCopySchema = shown(
  'GroupCopy',
  'A copy of a group. Of one that was deleted alone only the names are left.',
  {
    name: text('Name of the copy; of one that is gone: as it was at the freeze.'),
    id: text('Id of the copy.'),
    disk: nullableText('Name of its source now; null if that was deleted.'),
    diskId: text('Id of its source.'),
    diskName: text('Name of its source at the freeze.'),
    state: oneOfThese(['ready', 'deleted'], '`deleted`: this copy alone was deleted.'),
    pool: Type.Optional(text('Name of its pool.')),
    poolId: Type.Optional(text('Id of its pool.')),
    usedBlocks: Type.Optional(count('Mapped blocks of the source at the freeze.')),
    blockSizeBytes: Type.Optional(bytes('Size of a block')),
    capacityBytes: Type.Optional(bytes('Of its layout')),
    sourceCapacityBytes: Type.Optional(bytes('Capacity of the source at the freeze')),
    generation: Type.Optional(count('Orders the copies of a store.')),
  },
);

export const GroupSchema = shown('Group', 'Copies of several disks, frozen at one instant.', {
  id: text('UUID.'),
  name: text('Name, unique among disks, copies and groups.'),
  copies: listOf(refTo(GroupCopySchema), 'Its copies, in the order of the request.'),
  haltMicroseconds: count(
    'How long writing was halted, in microseconds: from the moment in which the first disk was ' +
      'halted to the one in which all go on.',
  ),
  labels,
  version: count('Rises with each change by a client; the ETag names it.'),
  frozenAt: time('The moment that all its copies show'),
});
export const GroupListSchema = pageSchema(GroupSchema);

export const GroupDiskSchema = asked('GroupDisk', 'A disk, and how its copy is to be called.', {
  disk: reference('The disk'),
  copy: Type.Optional(newName('Name of its copy; default: GROUP-DISK')),
});

const disk = Type.Union([
  reference('A disk; its copy is called GROUP-DISK'),
  refTo(GroupDiskSchema),
]);

export const CreateGroupSchema = asked('CreateGroup', 'Freeze several disks at one instant.', {
  name: newName('Name'),
  disks: Type.Array(disk, {
    description: 'The disks, of any pools, none twice.',
    minItems: 1,
    maxItems: GROUP_DISKS_MAX,
  }),
  layout: Type.Optional(
    oneOfThese(
      ['compact', 'full'],
      'Default view of each copy: only the used blocks, packed; or the whole address range.',
    ),
  ),
  labels: Type.Optional(labels),
});

export const GroupQuery = query({ ...pageQuery, ...labelQuery });

export const groupSchemas = [
  GroupCopySchema,
  GroupSchema,
  GroupListSchema,
  GroupDiskSchema,
  CreateGroupSchema,
];
