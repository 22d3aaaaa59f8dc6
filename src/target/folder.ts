/**
 * Small durable steps on folders: list one, sync one, write and read a small file in one.
 */
import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { errnoOf } from '../base/errors.ts';

/** What is found under a name: nothing, a folder with these entries, or something else. */
export type Found =
  | { readonly kind: 'nothing' }
  | {
      readonly kind: 'folder';
      readonly entries: ReadonlySet<string>;
      /** Those of the entries that are regular files. */
      readonly files: ReadonlySet<string>;
    }
  | { readonly kind: 'other' };

/** Looks at the name itself: a symbolic link is something else. */
export async function lookAt(path: string): Promise<Found> {
  try {
    const stats = await lstat(path);
    if (!stats.isDirectory()) return { kind: 'other' };
    const entries = await readdir(path, { withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    return {
      kind: 'folder',
      entries: new Set(entries.map(({ name }) => name)),
      files: new Set(files.map(({ name }) => name)),
    };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { kind: 'nothing' };
    throw error;
  }
}

/** Makes the entries of a folder (creations, renames, removals) durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY + constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a whole file (0600), durable in itself; its entry needs `syncFolder`. */
export async function writeSmall(path: string, text: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const handle = await open(path, O_WRONLY + O_CREAT + O_TRUNC + O_NOFOLLOW, 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The text of a file of at most `maxBytes`, or undefined if it is longer. */
export async function readSmall(path: string, maxBytes: number): Promise<string | undefined> {
  const handle = await open(path, constants.O_RDONLY + constants.O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    return size > maxBytes ? undefined : await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}
