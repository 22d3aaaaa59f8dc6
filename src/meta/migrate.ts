/**
 * The schema's steps: `migrations/0001-….sql`, `0002-….sql` …, applied in order, never backwards.
 *
 * Each file is one transaction that also sets `user_version` to its number, so a database always
 * stands between two files. A database beyond the last known file is left alone.
 *
 * Invariant: the files are numbered 1, 2, 3 … without a gap.
 */
import type { Database } from 'better-sqlite3';
import { fileURLToPath } from 'node:url';
import { assert } from '../base/assert.ts';
import { StorageError } from '../base/errors.ts';
import { packageFile } from '../base/package-files.ts';
import { readTextFiles } from './files.ts';

export const packageMigrationsDir = fileURLToPath(packageFile('migrations'));

/** "SPDL": marks a SQLite file as a metadata database of ours. */
const APPLICATION_ID = 0x5350444c;

export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
}

export function readMigrations(directory: string): Migration[] {
  const files = readTextFiles(directory, '.sql');
  assert(files.length > 0, `no migrations in ${directory}`);
  return files.map(({ name, text }, index) => {
    assert(Number(name.slice(0, 4)) === index + 1, `${name} is not migration ${index + 1}`);
    return { number: index + 1, name, sql: text };
  });
}

function schemaVersion(db: Database): number {
  return Number(db.pragma('user_version', { simple: true }));
}

/**
 * Reads only. True if the file is empty and so still to be made.
 *
 * @throws METADATA_INVALID if it is somebody else's database
 * @throws METADATA_NEWER_SCHEMA if a later version of this program made it
 */
export function checkIdentity(
  db: Database,
  path: string,
  migrations: readonly Migration[],
): boolean {
  const objects = Number(db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get());
  const applicationId = Number(db.pragma('application_id', { simple: true }));
  const found = schemaVersion(db);
  if (objects === 0 && applicationId === 0 && found === 0) return true;
  if (applicationId !== APPLICATION_ID) {
    const message = 'the file is a SQLite database of another program';
    throw new StorageError('METADATA_INVALID', message, { path, applicationId });
  }
  const known = migrations.length;
  if (found > known) {
    const message = `the metadata has schema ${found}, this version knows up to ${known}`;
    throw new StorageError('METADATA_NEWER_SCHEMA', message, { path, found, known });
  }
  return false;
}

/** Brings the schema up to the last migration. One transaction each. */
export function migrate(db: Database, migrations: readonly Migration[]): void {
  for (const { number, sql } of migrations.slice(schemaVersion(db))) {
    const apply = db.transaction(() => {
      db.exec(sql);
      db.pragma(`application_id = ${APPLICATION_ID}`);
      db.pragma(`user_version = ${number}`);
    });
    apply.immediate();
  }
}
