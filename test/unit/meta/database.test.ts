import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AssertionError } from '../../../src/base/assert.ts';
import { KIB, MIB } from '../../../src/base/units.ts';
import { MetaDatabase } from '../../../src/meta/database.ts';
import type { DatabaseOptions } from '../../../src/meta/database.ts';
import { Meta } from '../../../src/meta/meta.ts';
import { packageMigrationsDir } from '../../../src/meta/migrate.ts';
import { Rows } from '../../../src/meta/rows.ts';
import type { Batch, PageImage } from '../../../src/pool/metadata-store.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'meta-'));
  path = join(directory, 'meta.db');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

function open(more: Partial<DatabaseOptions> = {}): MetaDatabase {
  const newStoreId = 'store';
  const reserveBytes = 64 * KIB;
  return MetaDatabase.open({
    path,
    migrationsDir: packageMigrationsDir,
    newStoreId,
    reserveBytes,
    ...more,
  });
}

const coded = (code: string): Error => expect.objectContaining({ code }) as Error;

describe('a transaction', () => {
  it('that throws changes nothing, and the next one succeeds', () => {
    const database = open();
    const rows = new Rows(database.db);
    const put = (key: string): void => {
      rows.apply({ table: 'store', key: { key }, row: { value: 'x' } });
    };
    expect(() => {
      database.transaction(() => {
        put('a');
        throw new AssertionError('in the middle');
      });
    }).toThrow('in the middle');
    database.transaction(() => {
      put('b');
    });
    expect(rows.select('store', { value: 'x' })).toEqual([{ key: 'b', value: 'x' }]);
    database.close();
  });

  it('that would take a number of another row fails and does not replace that row', () => {
    const database = open();
    const rows = new Rows(database.db);
    const pool = (id: string, number: number): void => {
      rows.apply({
        table: 'pools',
        key: { id },
        row: {
          number,
          name: id,
          block_size_bytes: 65_536,
          low_water_percent: 80,
          critical_percent: 95,
          preallocate: 1,
          oldest_epoch: 1,
          epoch: 1,
          creation: '{}',
          version: 1,
          created_at: 1,
        },
      });
    };
    database.transaction(() => {
      pool('p1', 1);
    });
    expect(() => {
      database.transaction(() => {
        pool('p2', 1);
      });
    }).toThrow(AssertionError);
    expect(rows.select('pools', {}).map(({ id }) => id)).toEqual(['p1']);
    database.close();
  });

  it('after another owner came is OWNER_LOST and does not run', () => {
    const first = open();
    const second = open();
    let ran = false;
    expect(() => {
      first.transaction(() => {
        ran = true;
      });
    }).toThrow(coded('OWNER_LOST'));
    expect([second.epoch, ran]).toEqual([2, false]);
    first.close();
    second.close();
  });
});

describe('reading', () => {
  it('an integer above 2^53 - 1 is METADATA_INVALID, with table and column', () => {
    const database = open();
    database.db.exec("INSERT INTO dead_roots VALUES ('p', 1, 1, 1, 9007199254740992)");
    const details = { table: 'dead_roots', column: 'mapped_blocks' };
    const expected = expect.objectContaining({ code: 'METADATA_INVALID', details }) as Error;
    expect(() => new Rows(database.db).select('dead_roots', {})).toThrow(expected);
    database.close();
  });
});

describe('a store without room', () => {
  const PAGE = new Uint8Array(4096).fill(1);
  const limitBytes = MIB;
  const reserveBytes = 256 * KIB;
  const reservePath = (): string => join(directory, 'meta.reserve');

  function pages(from: number, count: number, data: Uint8Array | undefined): Batch {
    const images = Array.from({ length: count }, (_, index): PageImage => ({
      kind: 'node',
      number: from + index,
      data,
    }));
    return { pages: [{ pool: 0, images }], rows: [] };
  }

  /** Commits batches of 8 pages until there is no room; the number of committed pages. */
  async function fill(meta: Meta): Promise<number> {
    for (let count = 0; count < 1000; count += 8) {
      try {
        await meta.commit(pages(count, 8, PAGE));
      } catch (error) {
        expect(error).toMatchObject({ code: 'METADATA_FULL', details: { path } });
        return count;
      }
    }
    throw new Error('never full');
  }

  it('refuses growth with METADATA_FULL, unchanged, and gives its reserve back', async () => {
    const meta = await Meta.open({ path, limitBytes, reserveBytes });
    expect(existsSync(reservePath())).toBe(true);
    const count = await fill(meta);
    expect(count).toBeGreaterThan(100);
    expect(existsSync(reservePath())).toBe(false);
    expect(await meta.lastPage(0, 'node')).toBe(count - 1);
    await expect(meta.commit(pages(count, 8, PAGE))).rejects.toMatchObject({
      code: 'METADATA_FULL',
    });
    expect(await meta.check({ deep: true })).toEqual([]);
    await meta.close();
  });

  it('still takes overwrites, small rows and deletes', async () => {
    const meta = await Meta.open({ path, limitBytes, reserveBytes });
    await fill(meta);
    await meta.commit(pages(0, 8, new Uint8Array(4096).fill(2)));
    const row = { height: 1, count: 1, mapped_blocks: 1 };
    const key = { pool: 'p', node: 1 };
    await meta.commit({ pages: [], rows: [{ table: 'dead_roots', key, row }] });
    const large = { copy: 'c', segment: 0 };
    const crcs = { crcs: new Uint8Array(65_536) };
    await expect(
      meta.commit({ pages: [], rows: [{ table: 'checksums', key: large, row: crcs }] }),
    ).rejects.toMatchObject({ code: 'METADATA_FULL' });
    await meta.commit(pages(8, 8, undefined));
    expect(await meta.readPages(0, 'node', [0, 8])).toEqual([
      new Uint8Array(4096).fill(2),
      undefined,
    ]);
    await meta.close();
  });

  it('takes growth again and restores its reserve when deletes have made room', async () => {
    const meta = await Meta.open({ path, limitBytes, reserveBytes });
    const count = await fill(meta);
    await meta.commit(pages(0, count - 8, undefined));
    await meta.commit(pages(2000, 8, PAGE));
    expect(await meta.lastPage(0, 'node')).toBe(2007);
    expect(existsSync(reservePath())).toBe(true);
    await meta.close();
  });

  it('that is reopened full still refuses growth and takes deletes', async () => {
    const first = await Meta.open({ path, limitBytes, reserveBytes });
    const count = await fill(first);
    await first.abandon();
    const meta = await Meta.open({ path, limitBytes, reserveBytes });
    await expect(meta.commit(pages(count, 30, PAGE))).rejects.toMatchObject({
      code: 'METADATA_FULL',
    });
    await meta.commit(pages(0, 8, undefined));
    await meta.close();
  });
});
