/**
 * Which paths a client may name for pools and targets: those at or below a root (SPINDLE_ROOTS).
 *
 * A path is taken from the first root if it is relative. Symbolic links of the part that exists are
 * resolved, roots too, and the result must still be below a root; `..` is refused wherever it
 * stands, and so is a link that leads nowhere (what is made through it would lie where it points).
 * The daemon's own files are refused, with all inside them and every folder they are in. Callers
 * use the path that comes back, which has no links left, and open its last part without following.
 */
import { lstat, realpath, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve, sep } from 'node:path';
import { assert, defined } from '../base/assert.ts';
import { StorageError, errnoOf } from '../base/errors.ts';

/**
 * @param roots absolute paths, at least one; they need not exist yet
 * @param path absolute, or relative to the first root; need not exist
 * @param forbidden absolute paths of the daemon's own files and folders
 * @returns the absolute path without symbolic links
 * @throws PATH_NOT_ALLOWED with `path` and `reason`. Cost: a few lstat and realpath calls.
 */
export async function resolvePath(
  roots: readonly string[],
  path: string,
  forbidden: readonly string[] = [],
): Promise<string> {
  assert(roots.length > 0 && roots.every(isAbsolute), 'roots are absolute paths');
  if (path === '' || path.includes('\0')) throw notAllowed(path, 'it is empty or has a zero byte');
  if (path.split(sep).includes('..')) throw notAllowed(path, 'it has a ".." part');
  const real = await withoutLinks(resolve(defined(roots[0], 'root'), path), path);
  const realRoots = await Promise.all(roots.map((root) => withoutLinks(resolve(root), path)));
  if (!realRoots.some((root) => isAtOrBelow(real, root))) {
    throw notAllowed(path, 'it is not below one of the roots');
  }
  for (const own of forbidden) {
    const realOwn = await withoutLinks(resolve(own), path);
    if (isAtOrBelow(real, realOwn) || isAtOrBelow(realOwn, real)) {
      throw notAllowed(path, "it is, or holds, the daemon's own files");
    }
  }
  return real;
}

/** True if `path` is `root` or lies in it; both absolute, normalised, without links. Pure. */
export function isAtOrBelow(path: string, root: string): boolean {
  const folder = root.endsWith(sep) ? root : root + sep;
  return path === root || path.startsWith(folder);
}

/** True if a block device is there; false also where nothing is, or nothing can be seen. */
export async function isBlockDevice(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isBlockDevice();
  } catch {
    return false;
  }
}

/** Resolves the links of the longest part that exists and adds the rest as it is. */
async function withoutLinks(path: string, asked: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'ENOENT') throw notAllowed(asked, `it cannot be resolved (${errno ?? 'error'})`);
    if (await isLink(path)) throw notAllowed(asked, 'it has a link that leads nowhere');
    const parent = dirname(path);
    return join(await withoutLinks(parent, asked), path.slice(parent.length));
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch {
    return false;
  }
}

function notAllowed(path: string, reason: string): StorageError {
  return new StorageError('PATH_NOT_ALLOWED', `the path is not allowed: ${reason}`, {
    field: 'path',
    path,
    reason,
  });
}
