/**
 * What a virtual library remembers of itself: `library.json` in its directory.
 *
 * The cartridges' contents are in the .tap files beside it; a .tap file that is not in the list is
 * a cartridge that somebody put on the shelf.
 */
import { open, readFile, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import type { Static } from 'typebox';
import { Value } from 'typebox/value';
import { StorageError, errnoOf } from '../base/errors.ts';
import { MIB } from '../base/units.ts';

const place = Type.Union([
  Type.Object({
    kind: Type.Literal('drive'),
    drive: Type.Integer({ minimum: 0 }),
    /** The slot that its cartridge came from. */
    source: Type.Optional(Type.Integer({ minimum: 0 })),
  }),
  Type.Object({ kind: Type.Literal('slot'), slot: Type.Integer({ minimum: 0 }) }),
  Type.Object({ kind: Type.Literal('shelf') }),
]);

const cartridge = Type.Object({
  name: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$' }),
  sizeBytes: Type.Integer({ minimum: 0 }),
  earlyWarningBytes: Type.Integer({ minimum: 0 }),
  writeProtected: Type.Boolean(),
  worm: Type.Boolean(),
  place,
});

const libraryFile = Type.Object({
  format: Type.Literal('spindle-virtual-library'),
  version: Type.Literal(1),
  drives: Type.Integer({ minimum: 1, maximum: 64 }),
  slots: Type.Integer({ minimum: 0, maximum: 10_000 }),
  /** Of the door, behind the other slots. */
  importExportSlots: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })),
  cartridges: Type.Array(cartridge),
});

/** Where a cartridge is; drives and slots are counted from 0. */
export type Place = Static<typeof place>;
export type CartridgeRecord = Static<typeof cartridge>;
export type LibraryRecord = Static<typeof libraryFile>;

/** Of a cartridge of which nothing else is known. */
export const DEFAULT_CARTRIDGE_BYTES = 256 * MIB;

/** As large as that of a real drive, but no more than an eighth of the cartridge. */
export function defaultEarlyWarning(sizeBytes: number): number {
  return Math.min(4 * MIB, Math.floor(sizeBytes / 8));
}

export function isCartridgeName(name: string): boolean {
  return Value.Check(cartridge.properties.name, name);
}

export function newCartridge(name: string, sizeBytes = DEFAULT_CARTRIDGE_BYTES): CartridgeRecord {
  const earlyWarningBytes = defaultEarlyWarning(sizeBytes);
  return {
    name,
    sizeBytes,
    earlyWarningBytes,
    writeProtected: false,
    worm: false,
    place: { kind: 'shelf' },
  };
}

export function tapPath(directory: string, name: string): string {
  return join(directory, `${name}.tap`);
}

/**
 * @returns undefined if there is none yet
 * @throws TARGET_INVALID if it cannot be understood
 */
export async function readLibrary(directory: string): Promise<LibraryRecord | undefined> {
  const path = join(directory, 'library.json');
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (!Value.Check(libraryFile, value)) {
    throw new StorageError('TARGET_INVALID', `${path} is not the list of a virtual library`, {
      path,
    });
  }
  return value;
}

/** Replaces the list, durably. */
export async function writeLibrary(directory: string, library: LibraryRecord): Promise<void> {
  const path = join(directory, 'library.json');
  const draft = await open(`${path}.new`, 'w', 0o600);
  try {
    await draft.writeFile(`${JSON.stringify(library, undefined, 2)}\n`);
    await draft.sync();
  } finally {
    await draft.close();
  }
  await rename(`${path}.new`, path);
  await syncDirectory(directory);
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Names of the .tap files in the directory. */
export async function tapNames(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.tap'));
  return names.map((name) => name.slice(0, -'.tap'.length)).filter(isCartridgeName);
}
