/**
 * The catalog of a set of cartridges, a journal of lines of JSON in one file.
 *
 * It is a cache of the cartridges: scans make it anew. What a drive has confirmed is noted before
 * anybody counts on it. Several threads may add to one file; each reads what is there now.
 *
 * Invariants:
 *  1. `add` resolves when the lines are durable.
 *  2. A line that was cut off while it was written is no line; the next one is not harmed by it.
 */
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError, errnoOf } from '../base/errors.ts';
import { CatalogState } from './catalog-state.ts';
import type { CatalogLine } from './catalog-state.ts';
import { isJsonObject } from './fields.ts';
import { syncDirectory } from './library-file.ts';

const FORMAT = 'spindle-tape-catalog 1';

export class TapeCatalog {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * What it says now. Cost: the reading of the file, some 500 bytes a part.
   *
   * @throws TARGET_INVALID if the file is no catalog
   */
  async read(): Promise<CatalogState> {
    let text: string;
    try {
      text = await readFile(this.path, 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return new CatalogState();
      throw error;
    }
    const [first, ...lines] = text.split('\n').filter((line) => line !== '');
    if (first === undefined || FORMAT.startsWith(first)) {
      return new CatalogState(lines.flatMap(parseLine));
    }
    const message = `${this.path} is no catalog of cartridges`;
    throw new StorageError('TARGET_INVALID', message, { path: this.path });
  }

  /** Removes the file. Idempotent. */
  async forget(): Promise<void> {
    await rm(this.path, { force: true });
  }

  /** Adds lines, durably, in this order. After a crash the last ones may be missing. */
  async add(...lines: readonly CatalogLine[]): Promise<void> {
    await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
    const file = await open(this.path, 'a', 0o600);
    try {
      const { size } = await file.stat();
      // A newline in front ends a line that was cut off.
      const head = size === 0 ? FORMAT : '';
      const text = lines.map((line) => JSON.stringify(line)).join('\n');
      await file.appendFile(`${head}\n${text}\n`);
      await file.datasync();
      if (size === 0) await syncDirectory(dirname(this.path));
    } finally {
      await file.close();
    }
  }
}

function parseLine(text: string): CatalogLine[] {
  try {
    const value: unknown = JSON.parse(text);
    return isLine(value) ? [value] : [];
  } catch {
    return [];
  }
}

/** Only this program writes the file; what it has not written whole is no JSON. */
function isLine(value: unknown): value is CatalogLine {
  return isJsonObject(value) && typeof value['kind'] === 'string';
}
