/**
 * The exclusive lock of a file: util-linux `flock -n -x 3` on an inherited descriptor.
 *
 * The lock lives on the open file description, not on the process: it outlasts the `flock` child,
 * two descriptors opened separately exclude each other even within one process, and it ends with
 * the last descriptor, however the process ends. No lock file, nothing to clean up.
 *
 * Block devices are not locked here: opening them with O_EXCL is the kernel's own claim, and a
 * flock would collide with udev, which takes one while it probes a device.
 */
import { StorageError } from '../base/errors.ts';
import { INHERITED_DESCRIPTOR, runTool } from './util-linux.ts';

/** Exit status of `flock -n` when someone else holds the lock. */
const HELD_BY_ANOTHER = 1;

/**
 * Takes the lock at once or not at all. Cost: one short child process.
 *
 * @returns false if another open file description holds it
 * @throws POOL_UNAVAILABLE if `flock` is not installed or cannot lock this file system
 */
export async function tryLock(descriptor: number, path: string, tool = 'flock'): Promise<boolean> {
  const result = await runTool(tool, ['-n', '-x', String(INHERITED_DESCRIPTOR)], descriptor);
  if (result === undefined) {
    throw new StorageError(
      'POOL_UNAVAILABLE',
      `cannot lock ${path}: the program ${tool} (util-linux) is not installed`,
      { path },
    );
  }
  if (result.status === 0) return true;
  if (result.status === HELD_BY_ANOTHER) return false;
  throw new StorageError('POOL_UNAVAILABLE', `cannot lock ${path}: ${result.message}`, {
    path,
    status: result.status,
  });
}
