/**
 * The drive of a tape target, by its kind: the only place that knows the difference.
 */
import { StorageError } from '../base/errors.ts';
import type { TapeDevice } from '../tape/drive.ts';
import { readLibrary } from '../tape/library-file.ts';
import { stDevice } from '../tape/st-drive.ts';
import { asMediumError } from '../tape/media.ts';
import { VirtualLibrary } from '../tape/virtual-library.ts';
import { asTargetError } from './target-error.ts';

/** Import/export slots of a new virtual library with a changer. */
const DOOR_SLOTS = 2;

export type TapeKind = 'tape' | 'virtual-tape';

/**
 * The drive as it is now. A virtual one is looked up anew each time: hands may have been at it.
 *
 * @throws TARGET_UNAVAILABLE if the library is not there
 */
export async function openTapeDevice(kind: TapeKind, path: string): Promise<TapeDevice> {
  return kind === 'tape' ? stDevice(path) : (await openLibrary(path)).device();
}

/** A virtual library that is there. @throws TARGET_UNAVAILABLE, TARGET_INVALID */
export async function openLibrary(path: string): Promise<VirtualLibrary> {
  if ((await readLibrary(path)) !== undefined) return VirtualLibrary.open(path);
  const message = 'there is no virtual library any more';
  throw new StorageError('TARGET_UNAVAILABLE', message, { target: path });
}

/**
 * Begins a virtual library, with a door if it has a changer, or looks at a device for the first
 * time.
 *
 * @throws TARGET_UNAVAILABLE if it is not there, in use, not allowed, or no tape drive;
 *   TARGET_INVALID
 */
export async function beginTape(kind: TapeKind, path: string, hasChanger = false): Promise<void> {
  try {
    const door = { importExportSlots: hasChanger ? DOOR_SLOTS : 0 };
    if (kind === 'virtual-tape') await VirtualLibrary.open(path, door);
    else await (await stDevice(path).open('read')).close();
  } catch (error) {
    throw asTargetError(asMediumError(error, { target: path }), { target: path });
  }
}
