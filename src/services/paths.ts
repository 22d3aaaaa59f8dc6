/**
 * Which paths pools and targets may have: below a root, apart from the daemon's own files and from
 * each other. A block device only if the operator named it.
 *
 * Invariants: (1) no pool file lies in a target's folder, no target's folder holds a pool file, no
 * target lies in another; (2) nothing is made in, or in the place of, the daemon's own files.
 */
import { StorageError } from '../base/errors.ts';
import { isAtOrBelow, isBlockDevice, resolvePath } from '../target/paths.ts';

export interface PathRules {
  readonly roots: readonly string[];
  /** Devices that the operator named, absolute. */
  readonly devices: readonly string[];
  /** The daemon's own files. */
  readonly own: readonly string[];
  /** Files of all pools, as they are now. */
  readonly poolFiles: () => readonly string[];
  /** Folders of all targets, as they are now. */
  readonly targetFolders: () => readonly string[];
}

export class Paths {
  readonly #rules: PathRules;

  constructor(rules: PathRules) {
    this.#rules = rules;
  }

  /** The absolute path of a pool's file or device. @throws PATH_NOT_ALLOWED */
  async forPool(path: string): Promise<string> {
    const { roots, devices, own, targetFolders } = this.#rules;
    if (devices.includes(path)) return path;
    const real = await resolvePath(roots, path, own);
    if (targetFolders().some((folder) => overlap(real, folder))) {
      throw notAllowed(path, 'it is, or holds, or lies in a target');
    }
    if (await isBlockDevice(real)) {
      throw notAllowed(path, 'it is a device that SPINDLE_DEVICES does not name');
    }
    return real;
  }

  /** A device that the operator named, for a target. @throws PATH_NOT_ALLOWED */
  async forDevice(path: string): Promise<string> {
    if (this.#rules.devices.includes(path)) return path;
    throw notAllowed(path, 'it is not among the devices that SPINDLE_DEVICES names');
  }

  /** The absolute path of a target's folder, which may be one already. @throws PATH_NOT_ALLOWED */
  async forTarget(path: string): Promise<string> {
    const { roots, own, poolFiles, targetFolders } = this.#rules;
    const real = await resolvePath(roots, path, own);
    const others = [...poolFiles(), ...targetFolders().filter((folder) => folder !== real)];
    if (others.some((other) => overlap(real, other))) {
      throw notAllowed(path, 'it is, or holds, or lies in a pool file or another target');
    }
    return real;
  }
}

function overlap(path: string, other: string): boolean {
  return isAtOrBelow(path, other) || isAtOrBelow(other, path);
}

function notAllowed(path: string, reason: string): StorageError {
  const message = `the path is not allowed: ${reason}`;
  return new StorageError('PATH_NOT_ALLOWED', message, { field: 'path', path, reason });
}
