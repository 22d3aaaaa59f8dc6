/**
 * What must be true of cartridges and catalog when the daemon is dead, at any moment.
 *
 *  1. Each part of the catalog is on its cartridge, as the catalog says, confirmed by its filemark;
 *     but for the rest of a transfer that was cut off, which a scan has found.
 *  2. A cartridge has at most one closed part more, its last: confirmed, and not yet noted.
 *  3. Parts of a backup follow each other without a gap and without a byte that is there twice.
 *  4. A part that was noted once stays, until its backup is deleted or its cartridge labelled anew.
 */
import { linkSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { isStorageError } from '../../src/base/errors.ts';
import { TapeCatalog } from '../../src/tape/catalog.ts';
import { holdsAnything, partEnd } from '../../src/tape/parts.ts';
import type { PartEntry } from '../../src/tape/parts.ts';
import { scanVolume } from '../../src/tape/scan.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';
import { mountVolume, releaseVolume } from '../../src/tape/volume.ts';
import { Violation } from './violation.ts';

export class CartridgeProof {
  readonly #library: string;
  readonly #catalog: string;
  /** All parts of the catalog at the last look, by id. */
  #noted = new Map<string, PartEntry>();

  /** @param library its directory @param catalog its file */
  constructor(library: string, catalog: string) {
    this.#library = library;
    this.#catalog = catalog;
  }

  /** @param isDeletable the name of a backup whose deletion was asked for */
  async prove(isDeletable: (backup: string) => boolean): Promise<void> {
    const { backups, volumes } = await new TapeCatalog(this.#catalog).read();
    const noted = new Map<string, PartEntry>();
    for (const { name, parts } of backups) {
      let at = 0;
      for (const part of parts.filter(isConfirmed)) {
        noted.set(part.partId, part);
        if (!holdsAnything(part)) continue;
        if (part.firstOffset !== at) {
          throw new Violation(`parts of ${name} do not follow each other`, { at, part });
        }
        at = partEnd(part);
      }
    }
    const known = new Set(volumes.map(({ label }) => label.volumeId));
    for (const [partId, part] of this.#noted) {
      const isThere = noted.has(partId) || !known.has(part.volumeId);
      if (isThere || isDeletable(part.backup ?? '')) continue;
      throw new Violation('a confirmed part is in the catalog no more', { part });
    }
    this.#noted = noted;
    const found = await this.#scan();
    for (const { label } of volumes) {
      const { volumeId } = label;
      const parts = [...noted.values()].filter((part) => part.volumeId === volumeId);
      proveVolume(label.label, parts, found.get(volumeId));
    }
  }

  /** Parts by cartridge. */
  async #scan(): Promise<Map<string, PartEntry[]>> {
    const directory = mkdtempSync(join(tmpdir(), 'spindle-scan-'));
    try {
      for (const name of readdirSync(this.#library).filter((each) => each.endsWith('.tap'))) {
        linkSync(join(this.#library, name), join(directory, name));
      }
      const library = await VirtualLibrary.open(directory);
      const found = new Map<string, PartEntry[]>();
      for (const { name } of library.cartridges()) {
        await library.load(name);
        try {
          const volume = await mountVolume(library.device(), 'read');
          const { parts } = await scanVolume(volume);
          await releaseVolume(volume);
          found.set(
            volume.label.volumeId,
            parts.map(({ entry }) => entry),
          );
        } catch (error) {
          if (!isStorageError(error, 'MEDIUM_BLANK')) throw error;
        }
      }
      await library.close();
      return found;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

function isConfirmed({ state, endsVolume }: PartEntry): boolean {
  return state !== 'open' || endsVolume;
}

function proveVolume(
  label: string,
  parts: readonly PartEntry[],
  found: readonly PartEntry[] | undefined,
): void {
  if (found === undefined) throw new Violation(`cartridge ${label} has lost its label`);
  for (const part of parts) {
    const there = found.find(({ partId }) => partId === part.partId);
    if (isDeepStrictEqual(there, part)) continue;
    // One whose trailer found no room was confirmed all the same: each record tells of itself.
    const isAlike = there?.firstOffset === part.firstOffset && there.state === 'open';
    if (part.state === 'open' && isAlike && there.dataBytes >= part.dataBytes) continue;
    throw new Violation(`a part is not on ${label} as the catalog says`, { part, there });
  }
}
