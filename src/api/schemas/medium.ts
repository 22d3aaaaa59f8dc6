/** Cartridges in requests and answers. */
import { Type } from 'typebox';
import {
  asked,
  bytes,
  count,
  flag,
  listOf,
  newName,
  nullableBytes,
  nullableText,
  nullableTime,
  oneOfThese,
  pageQuery,
  pageSchema,
  query,
  shown,
  text,
  time,
} from './fields.ts';

const nullableCount = (description: string) =>
  Type.Unsafe<number | null>({ description, type: ['integer', 'null'], format: 'int64' });

const nullableFlag = (description: string) =>
  Type.Unsafe<boolean | null>({ description, type: ['boolean', 'null'] });
const isImportExport = flag('People put cartridges in and take them out here.');
const isFull = flag('A cartridge is there.');
const barcode = nullableText('As the changer reads it; null: none, or one that cannot be used.');
const knownLabel = nullableText('What its label said when it was read last; null: not known.');

const states = ['unlabelled', 'appendable', 'full', 'other-set'] as const;

export const MediumSchema = shown('Medium', 'A cartridge, by its label, its place, or both.', {
  id: nullableText('UUID of its labelling; null: not labelled, as far as is known.'),
  label: nullableText('What a person calls it.'),
  set: nullableText('The set that it belongs to.'),
  number: nullableCount('In its set, from 1.'),
  state: oneOfThese(
    states,
    'unlabelled: nothing is known of it; appendable: takes more; full; other-set: never written.',
  ),
  labelledAt: nullableTime('When it was labelled'),
  expiresAt: nullableTime('Until then it is kept in any case; null: while a backup needs it'),
  dataBytes: bytes('Bytes of images on it, also of backups that were deleted.'),
  backups: listOf(text('Name.'), 'Backups, as named on the target, with bytes on it.'),
  canBeLabelled: flag('It may be labelled anew now, as far as is known without looking at it.'),
  keptBecause: nullableText('Why it may not: the backups that need it, or when it expires.'),
  problem: nullableText('What is wrong, for people, as two cartridges of one number in a set.'),
  cartridge: nullableText('Name in the virtual library; null of a real cartridge.'),
  barcode: nullableText('As the library reads it; null: it has none, or is not in a library.'),
  place: nullableText(
    '`drive`, `slot`, `import-export` (a slot that people take it from) or, out of a virtual ' +
      'library, `shelf`; null: not known.',
  ),
  slot: nullableCount('In the library, from 1; of one in a drive where it came from.'),
  inDrive: nullableFlag('Null: not known.'),
  sizeBytes: nullableBytes('Room of a virtual cartridge.'),
});
export const MediumListSchema = pageSchema(MediumSchema);

const slot = Type.Integer({
  description: 'Number of a slot of the changer, from 1.',
  minimum: 1,
  maximum: 65535,
});
const CARTRIDGE = '^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$';

export const AddMediumSchema = asked('AddMedium', 'A new blank virtual cartridge.', {
  cartridge: text('Its name, as on the sticker.', { pattern: CARTRIDGE }),
  sizeBytes: Type.Optional(bytes('Its room. Default 256 MiB.', 1024 * 1024)),
});

export const LoadMediumSchema = asked('LoadMedium', 'What to put into the drive: one of both.', {
  medium: Type.Optional(
    text('Label, barcode, name of the cartridge, or id.', { minLength: 1, maxLength: 64 }),
  ),
  slot: Type.Optional(slot),
});

export const UnloadQuery = query({ slot: Type.Optional(slot) });

export const LibrarySchema = shown('Library', 'What a changer has, and what is where.', {
  changer: text('Path of its device, or of the virtual library.'),
  drives: listOf(
    Type.Object({
      drive: count('Number of the drive in the changer, from 0.'),
      isOwn: flag('It is the drive of this target.'),
      isFull,
      barcode,
      sourceSlot: nullableCount('Where its cartridge came from.'),
      label: knownLabel,
    }),
    'Drives.',
  ),
  slots: listOf(
    Type.Object({ slot: count('From 1.'), isImportExport, isFull, barcode, label: knownLabel }),
    'Slots.',
  ),
});

export const LabelMediumSchema = asked('LabelMedium', 'A label for what is in the drive.', {
  label: Type.Optional(newName('Label. Default SET-NUMBER')),
  expiresAt: Type.Optional(
    time('Until then it is kept in any case. Default: while a backup needs it'),
  ),
  recordBytes: Type.Optional(
    Type.Integer({
      description: 'Length of its records, a multiple of 64 KiB. Default 256 KiB.',
      minimum: 65536,
      maximum: 1048576,
      multipleOf: 65536,
    }),
  ),
  force: Type.Optional(
    text('The label that is on it now, to overwrite it; `foreign` for what has none of ours.', {
      minLength: 1,
      maxLength: 63,
    }),
  ),
});

export const MediumQuery = query({ ...pageQuery });

export const mediumSchemas = [
  MediumSchema,
  MediumListSchema,
  AddMediumSchema,
  LoadMediumSchema,
  LibrarySchema,
  LabelMediumSchema,
];
