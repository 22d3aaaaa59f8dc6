import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Paths } from '../../../src/services/paths.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

async function world(): Promise<{ root: string; paths: Paths }> {
  const root = await temporaryDirectory();
  await mkdir(join(root, 'shelf'));
  await mkdir(join(root, 'pools'));
  await writeFile(join(root, 'meta.db'), '');
  const paths = new Paths({
    roots: [root],
    devices: ['/dev/disk/by-id/one'],
    own: [join(root, 'meta.db')],
    poolFiles: () => [join(root, 'pools', 'p.dat')],
    targetFolders: () => [join(root, 'shelf')],
  });
  return { root, paths };
}

const refused = { code: 'PATH_NOT_ALLOWED' };

describe('the file of a pool', () => {
  it('may lie below a root, given absolute or from the first root', async () => {
    const { root, paths } = await world();
    expect(await paths.forPool('new/pool.dat')).toBe(join(root, 'new', 'pool.dat'));
    expect(await paths.forPool(join(root, 'pool.dat'))).toBe(join(root, 'pool.dat'));
  });

  it('may be named again for a pool that has it', async () => {
    const { root, paths } = await world();
    expect(await paths.forPool('pools/p.dat')).toBe(join(root, 'pools', 'p.dat'));
  });

  it.each(['../pool.dat', '/etc/pool.dat', 'meta.db', 'meta.db/x', 'shelf', 'shelf/pool.dat'])(
    'is refused at %s',
    async (path) => {
      const { paths } = await world();
      await expect(paths.forPool(path)).rejects.toMatchObject(refused);
    },
  );

  it('is refused behind a link into a target', async () => {
    const { root, paths } = await world();
    await symlink('shelf', join(root, 'link'));
    await expect(paths.forPool('link/pool.dat')).rejects.toMatchObject(refused);
  });

  it('may be a device that the operator named, spelled the same', async () => {
    const { paths } = await world();
    expect(await paths.forPool('/dev/disk/by-id/one')).toBe('/dev/disk/by-id/one');
    await expect(paths.forPool('/dev/disk/by-id/two')).rejects.toMatchObject(refused);
  });
});

describe('the device of a target', () => {
  it('is one that the operator named, spelled the same', async () => {
    const { root, paths } = await world();
    expect(await paths.forDevice('/dev/disk/by-id/one')).toBe('/dev/disk/by-id/one');
    for (const path of ['/dev/nst0', '/dev/disk/by-id/../by-id/one', join(root, 'shelf'), '']) {
      await expect(paths.forDevice(path)).rejects.toMatchObject(refused);
    }
  });
});

describe('the folder of a target', () => {
  it('may lie below a root, and be one already', async () => {
    const { root, paths } = await world();
    expect(await paths.forTarget('backups')).toBe(join(root, 'backups'));
    expect(await paths.forTarget('shelf')).toBe(join(root, 'shelf'));
  });

  it.each(['.', 'pools', 'pools/p.dat', 'pools/p.dat/x', 'shelf/inner', 'meta.db', '/var/backups'])(
    'is refused at %s',
    async (path) => {
      const { paths } = await world();
      await expect(paths.forTarget(path)).rejects.toMatchObject(refused);
    },
  );
});
