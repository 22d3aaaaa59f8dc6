import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DataDir } from '../../../src/daemon/data-dir.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

it('a directory that is missing is made for its owner only, parents too', async () => {
  const path = join(await temporaryDirectory(), 'a', 'b');
  const dir = await DataDir.open(path);
  expect(await modeOf(path)).toBe(0o700);
  expect(await modeOf(join(path, 'lock'))).toBe(0o600);
  await dir.close();
});

it('a directory that is there keeps its mode', async () => {
  const path = join(await temporaryDirectory(), 'data');
  await mkdir(path);
  await chmod(path, 0o750);
  await (await DataDir.open(path)).close();
  expect(await modeOf(path)).toBe(0o750);
});

it('a second owner is refused with the process of the first', async () => {
  const path = await temporaryDirectory();
  const dir = await DataDir.open(path);
  await expect(DataDir.open(path)).rejects.toMatchObject({
    code: 'STORE_LOCKED',
    message: `the data directory ${path} is in use by process ${process.pid}`,
  });
  await dir.close();
  const next = await DataDir.open(path);
  expect(await readFile(join(path, 'lock'), 'utf8')).toBe(`${process.pid}\n`);
  await next.close();
});

it('a file in the place of the directory is refused with the reason', async () => {
  const path = join(await temporaryDirectory(), 'data');
  await writeFile(path, '');
  await expect(DataDir.open(path)).rejects.toMatchObject({ code: 'PATH_NOT_ALLOWED' });
});

it('names the files that are the daemon alone', async () => {
  const path = await temporaryDirectory();
  const dir = await DataDir.open(path);
  expect(dir.own).toContain(dir.database);
  expect(dir.own).toContain(`${dir.database}-wal`);
  expect(dir.own).toContain(dir.databaseCopy);
  expect(dir.own.every((own) => own.startsWith(`${path}/`))).toBe(true);
  await dir.close();
});
