/**
 * A backup as the catalog of a set of cartridges knows it: its parts, wherever they lie. Pure.
 */
import { missingRanges, resumePosition, sortParts } from './assemble.ts';
import type { Json } from './fields.ts';
import { partEnd } from './parts.ts';
import type { PartEntry } from './parts.ts';
import type { SetPosition } from './set-writer.ts';

export interface CatalogPart {
  readonly entry: PartEntry;
  /** Of a final part; null if it cannot be read. */
  readonly manifest: Json | null;
  /** What the bytes are, as its header says. */
  readonly contentId: string | null;
}

export class CatalogBackup {
  readonly backupId: string;
  readonly name: string;
  readonly contentId: string | null;
  /** By place in the image. */
  readonly parts: readonly PartEntry[];
  /** Of the final part; null also if that cannot be read. */
  readonly manifest: Json | null;

  constructor(
    backupId: string,
    name: string,
    contentId: string | null,
    parts: readonly CatalogPart[],
  ) {
    this.backupId = backupId;
    this.name = name;
    this.contentId = contentId ?? parts.find((part) => part.contentId !== null)?.contentId ?? null;
    this.parts = sortParts(parts.map(({ entry }) => entry));
    this.manifest = parts.find(({ manifest }) => manifest !== null)?.manifest ?? null;
  }

  /** Its final part is known. Bytes may be missing all the same. */
  get isComplete(): boolean {
    return this.#final !== undefined;
  }

  /** Length of the image of a complete one. */
  get imageBytes(): number {
    return this.#final === undefined ? 0 : partEnd(this.#final);
  }

  /** Bytes of a complete one that no known cartridge holds. */
  get missingBytes(): number {
    const missing = missingRanges(this.parts, this.imageBytes);
    return missing.reduce((sum, { length }) => sum + length, 0);
  }

  get position(): SetPosition {
    return resumePosition(this.parts);
  }

  get #final(): PartEntry | undefined {
    return this.parts.find(({ state }) => state === 'final');
  }
}
