/**
 * Cartridges that nobody needs any more: what an operator may label anew.
 */
import { isStorageError } from '../base/errors.ts';
import type { Targets } from './targets.ts';

export interface FreeMedium {
  readonly target: string;
  readonly label: string;
}

/**
 * Cartridges with bytes of backups, all of them deleted, whose label has not to expire first. Reads
 * catalogs, no cartridge; a target that is away has none.
 *
 * @param targetId null: of all targets
 */
export async function freeMedia(targets: Targets, targetId: string | null): Promise<FreeMedium[]> {
  const free: FreeMedium[] = [];
  for (const target of targets.list()) {
    if (target.kind === 'directory' || (targetId !== null && target.id !== targetId)) continue;
    try {
      for (const { label, dataBytes, canBeLabelled } of await targets.media(target).list()) {
        const isFree = canBeLabelled && dataBytes > 0;
        if (isFree && label !== null) free.push({ target: target.name, label });
      }
    } catch (error) {
      if (!isStorageError(error)) throw error;
    }
  }
  return free;
}
