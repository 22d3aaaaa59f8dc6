/**
 * Long work on the database in short steps: a consistent copy, and the check of its structure.
 *
 * Both give the thread back between steps of a few milliseconds, so commits go on meanwhile. The
 * copy (SQLite's backup API) takes in what commits while it runs.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { StorageError, errnoOf } from '../base/errors.ts';
import { Mutex } from '../base/mutex.ts';
import type { MetaDatabase } from './database.ts';
import { publish, removeFile, syncPath } from './files.ts';
import { pageTables } from './pages.ts';
import { tables } from './tables.ts';

/** Database pages copied in one step: 256 KiB. */
const PAGES_PER_STEP = 64;
/** The copy is forced to the medium as it grows, or the last sync would hold the thread. */
const STEPS_PER_SYNC = 16;
const ROWS_PER_SLICE = 256;
/** Rows of each big table, from the newest, that a quick check reads. */
const QUICK_ROWS = 4096;
const MAX_FINDINGS = 100;

/** Tables that grow with data: read slice by slice. The others are small. */
const bigTables = [
  ...pageTables.map((name) => ({ name, column: 'data' })),
  { name: 'checksums', column: 'crcs' },
];

export class Maintenance {
  readonly #database: MetaDatabase;
  readonly #copying = new Mutex();
  #stopped = false;

  constructor(database: MetaDatabase) {
    this.#database = database;
  }

  /** Makes what runs end soon, with SHUTTING_DOWN. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Writes a consistent copy of the database to `path`, whole or not at all.
   *
   * @throws HOST_FULL, TARGET_UNAVAILABLE (it cannot be written there), SHUTTING_DOWN
   */
  async copyTo(path: string): Promise<void> {
    const temporary = `${path}.part`;
    await this.#copying.run(async () => {
      try {
        await this.#backup(temporary);
        await publish(temporary, path);
      } catch (error) {
        removeFile(temporary);
        throw copyError(error, path);
      }
    });
  }

  /**
   * What is wrong with the structure of the database, nothing if all is well; at most 100 lines.
   * Quick: all small tables and the newest 4096 rows of each big one. Deep: every row.
   */
  async check(deep: boolean): Promise<string[]> {
    const findings: string[] = [];
    const big = bigTables.map(({ name }) => name);
    for (const { name } of tables.filter((table) => !big.includes(table.name))) {
      findings.push(...this.#guard(name, () => this.#checkTable(name, deep)));
      await this.#pause();
    }
    for (const { name, column } of bigTables) {
      findings.push(...(await this.#walk(name, column, deep ? Infinity : QUICK_ROWS)));
    }
    return findings.slice(0, MAX_FINDINGS);
  }

  async #pause(): Promise<void> {
    await nextTurn();
    this.#checkRunning();
  }

  #checkRunning(): void {
    if (this.#stopped) throw new StorageError('SHUTTING_DOWN', 'the store is being closed');
  }

  async #backup(temporary: string): Promise<void> {
    this.#checkRunning();
    removeFile(temporary);
    let steps = 0;
    let syncing: Promise<void> | undefined;
    const progress = (): number => {
      this.#checkRunning();
      steps += 1;
      if (steps % STEPS_PER_SYNC === 0) {
        syncing ??= syncPath(temporary).finally(() => {
          syncing = undefined;
        });
      }
      return PAGES_PER_STEP;
    };
    await this.#database.db.backup(temporary, { progress });
    await syncing;
  }

  #checkTable(name: string, deep: boolean): string[] {
    const pragma = `${deep ? 'integrity_check' : 'quick_check'}(${name})`;
    const lines: unknown = this.#database.db.prepare(`PRAGMA ${pragma}`).pluck().all();
    return (Array.isArray(lines) ? lines : []).map(String).filter((line) => line !== 'ok');
  }

  async #walk(name: string, column: string, maxRows: number): Promise<string[]> {
    const slice = this.#database.db
      .prepare(
        `SELECT rowid, ${column} FROM ${name} WHERE rowid < ? ORDER BY rowid DESC ` +
          `LIMIT ${ROWS_PER_SLICE}`,
      )
      .raw();
    let before: number | undefined = Number.MAX_SAFE_INTEGER;
    let rows = 0;
    while (before !== undefined && rows < maxRows) {
      let ids: number[] = [];
      const at: number = before;
      const findings = this.#guard(name, () => {
        ids = slice.all(at).map((row) => (Array.isArray(row) ? Number(row[0]) : 0));
        return [];
      });
      if (findings.length > 0) return findings;
      before = ids.at(-1);
      rows += ids.length;
      await this.#pause();
    }
    return [];
  }

  #guard(name: string, body: () => string[]): string[] {
    try {
      return this.#database.read(body).map((line) => `${name}: ${line}`);
    } catch (error) {
      return [`${name}: ${error instanceof Error ? error.message : String(error)}`];
    }
  }
}

function copyError(error: unknown, path: string): StorageError {
  if (error instanceof StorageError) return error;
  const code = errnoOf(error) ?? '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT') {
    return new StorageError('HOST_FULL', 'no room for the copy of the metadata', { path }, error);
  }
  const message = `the metadata cannot be copied to ${path}: ${reason}`;
  return new StorageError('TARGET_UNAVAILABLE', message, { path, reason }, error);
}
