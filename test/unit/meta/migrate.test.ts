import SqliteDatabase from 'better-sqlite3';
import type { Database } from 'better-sqlite3';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import { MetaDatabase } from '../../../src/meta/database.ts';
import { packageMigrationsDir, readMigrations } from '../../../src/meta/migrate.ts';
import { pageTables } from '../../../src/meta/pages.ts';
import { tables } from '../../../src/meta/tables.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'meta-'));
  path = join(directory, 'meta.db');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function open(migrationsDir = packageMigrationsDir): MetaDatabase {
  return MetaDatabase.open({ path, migrationsDir, newStoreId: 'new', reserveBytes: 4096 });
}

function withFile<T>(body: (db: Database) => T): T {
  const db = new SqliteDatabase(path);
  try {
    return body(db);
  } finally {
    db.close();
  }
}

function makeStore(): void {
  open().close();
}

/** A migrations directory with the package's files and more. */
function migrationsWith(files: Readonly<Record<string, string>>, packaged = 4): string {
  const made = join(directory, 'migrations');
  mkdirSync(made);
  for (const { name } of readMigrations(packageMigrationsDir).slice(0, packaged)) {
    copyFileSync(join(packageMigrationsDir, name), join(made, name));
  }
  for (const [name, sql] of Object.entries(files)) writeFileSync(join(made, name), sql);
  return made;
}

describe('the schema', () => {
  it('has exactly the tables and columns that tables.ts names, of their types', () => {
    const { db } = open();
    const made = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
    expect(made.sort()).toEqual([...pageTables, ...tables.map(({ name }) => name)].sort());
    for (const { name, columns, key } of tables) {
      const info = db.pragma(`table_info(${name})`) as Record<string, unknown>[];
      const found = info.map((column) => ({
        name: column.name,
        type: column.type,
        nullable: column.notnull === 0,
      }));
      expect({ name, columns: found }).toEqual({ name, columns });
      const primary = info.filter((column) => Number(column.pk) > 0).map((column) => column.name);
      expect(primary).toEqual(key.map((column) => column.name));
    }
    db.close();
  });

  it('is made of strict tables only, with pages of 4 KiB in WAL mode and synchronous FULL', () => {
    const { db } = open();
    const list = db.pragma('table_list') as Record<string, unknown>[];
    const ours = list.filter(({ name }) => !String(name).startsWith('sqlite_'));
    expect(ours.every(({ strict }) => strict === 1)).toBe(true);
    const pragmas = ['page_size', 'journal_mode', 'synchronous', 'user_version'];
    const values = pragmas.map((name) => db.pragma(name, { simple: true }));
    expect(values).toEqual([4096, 'wal', 2, readMigrations(packageMigrationsDir).length]);
    db.close();
  });
});

describe('migrating', () => {
  it('applies the missing files and keeps what is there', () => {
    makeStore();
    const directoryWithMore = migrationsWith({
      '0005-tapes.sql': "CREATE TABLE tapes (id TEXT); INSERT INTO tapes VALUES ('t1');",
      '0006-labels.sql': "ALTER TABLE tapes ADD COLUMN label TEXT DEFAULT 'x';",
    });
    const database = open(directoryWithMore);
    expect(database.epoch).toBe(2);
    expect(database.db.prepare('SELECT * FROM tapes').all()).toEqual([{ id: 't1', label: 'x' }]);
    expect(database.db.pragma('user_version', { simple: true })).toBe(6);
    database.close();
  });

  it('that fails in the middle of a file leaves the schema before that file', () => {
    makeStore();
    const bad = migrationsWith({
      '0005-good.sql': 'CREATE TABLE good (id TEXT);',
      '0006-bad.sql': 'CREATE TABLE half (id TEXT); CREATE TABLE good (id TEXT);',
    });
    expect(() => open(bad)).toThrow(AssertionError);
    const [version, half] = withFile((db) => [
      db.pragma('user_version', { simple: true }),
      db.prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").pluck().get(),
    ]);
    expect([version, half]).toEqual([5, 0]);
  });

  it('refuses files that are not numbered 1, 2, 3 …', () => {
    const gap = migrationsWith({ '0007-late.sql': 'CREATE TABLE late (id TEXT);' });
    expect(() => readMigrations(gap)).toThrow('0007-late.sql is not migration 5');
  });
});

describe('a file that is not ours', () => {
  function expectUnchanged(details: object): void {
    const before = readFileSync(path);
    expect(open).toThrow(expect.objectContaining(details) as Error);
    expect(readFileSync(path).equals(before)).toBe(true);
  }

  it('made by a later version is METADATA_NEWER_SCHEMA and stays as it is', () => {
    makeStore();
    withFile((db) => db.pragma('user_version = 99'));
    expectUnchanged({ code: 'METADATA_NEWER_SCHEMA', details: { path, found: 99, known: 4 } });
  });

  it('of another program is METADATA_INVALID and stays as it is', () => {
    withFile((db) => db.exec('CREATE TABLE bookmarks (url TEXT)'));
    expectUnchanged({ code: 'METADATA_INVALID' });
  });

  it('that is no SQLite database is METADATA_INVALID and stays as it is', () => {
    writeFileSync(path, 'A long letter to whom it may concern. '.repeat(500));
    expectUnchanged({ code: 'METADATA_INVALID' });
  });

  it('whose first page is overwritten is METADATA_INVALID', () => {
    makeStore();
    const bytes = readFileSync(path);
    bytes.fill(0xff, 100, 4096);
    writeFileSync(path, bytes);
    expectUnchanged({ code: 'METADATA_INVALID' });
  });

  it('that was cut off is METADATA_INVALID', () => {
    makeStore();
    truncateSync(path, 4096);
    expect(open).toThrow(expect.objectContaining({ code: 'METADATA_INVALID' }) as Error);
  });

  it('that is empty becomes a store', () => {
    writeFileSync(path, '');
    const database = open();
    expect([database.storeId, database.epoch]).toEqual(['new', 1]);
    database.close();
  });
});
