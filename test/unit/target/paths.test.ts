import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isStorageError } from '../../../src/base/errors.ts';
import { isAtOrBelow, resolvePath } from '../../../src/target/paths.ts';

describe('a path for pools and targets', () => {
  let outside: string;
  let root: string;
  let second: string;

  beforeEach(async () => {
    outside = await realpath(await mkdtemp(join(tmpdir(), 'spindle-paths-')));
    root = join(outside, 'root');
    second = join(outside, 'second');
    await mkdir(root);
    await mkdir(second);
  });

  afterEach(async () => {
    await rm(outside, { recursive: true });
  });

  const resolved = (path: string, forbidden: string[] = []): Promise<string> =>
    resolvePath([root, second], path, forbidden);
  const isRefused = (path: string, forbidden: string[] = []): Promise<boolean> =>
    resolved(path, forbidden).then(
      () => false,
      (error: unknown) => isStorageError(error, 'PATH_NOT_ALLOWED'),
    );

  it('is taken from the first root if it is relative', async () => {
    expect(await resolved('backups')).toBe(join(root, 'backups'));
    expect(await resolved('./a/b//c/')).toBe(join(root, 'a', 'b', 'c'));
  });

  it('may be absolute below any root, or a root', async () => {
    expect(await resolved(join(second, 'x'))).toBe(join(second, 'x'));
    expect(await resolved(second)).toBe(second);
  });

  it('need not exist, and neither need the root', async () => {
    const missing = join(outside, 'not', 'yet');
    expect(await resolvePath([missing], 'a/b')).toBe(join(missing, 'a', 'b'));
  });

  it('with ".." is refused, even if it stays inside', async () => {
    for (const path of ['..', '../root/x', 'a/../b', `${root}/../second`, 'a/..']) {
      expect(await isRefused(path)).toBe(true);
    }
    expect(await resolved('..a')).toBe(join(root, '..a'));
  });

  it('outside the roots is refused', async () => {
    for (const path of ['/', '/etc/passwd', outside, `${root}x`, join(outside, 'rootless')]) {
      expect(await isRefused(path)).toBe(true);
    }
  });

  it('that is empty or has a zero byte is refused', async () => {
    expect(await isRefused('')).toBe(true);
    expect(await isRefused('a\0b')).toBe(true);
  });

  it('through a link that leaves the roots is refused', async () => {
    await symlink('/etc', join(root, 'out'));
    expect(await isRefused('out')).toBe(true);
    expect(await isRefused('out/new/folder')).toBe(true);
  });

  it('through a link that stays inside is what the link means', async () => {
    await symlink(second, join(root, 'inside'));
    expect(await resolved('inside/new')).toBe(join(second, 'new'));
  });

  it('through a link that leads nowhere, or round, is refused', async () => {
    await symlink(join(outside, 'nowhere'), join(root, 'dangling'));
    await symlink(join(root, 'b'), join(root, 'a'));
    await symlink(join(root, 'a'), join(root, 'b'));
    expect(await isRefused('dangling')).toBe(true);
    expect(await isRefused('dangling/x')).toBe(true);
    expect(await isRefused('a/x')).toBe(true);
  });

  it('below a file is refused', async () => {
    await writeFile(join(root, 'file'), '');
    expect(await isRefused('file/x')).toBe(true);
  });

  it('below a root that is a link is allowed', async () => {
    const link = join(outside, 'link');
    await symlink(root, link);
    expect(await resolvePath([link], 'x')).toBe(join(root, 'x'));
    expect(await resolvePath([link], join(root, 'x'))).toBe(join(root, 'x'));
  });

  it("of the daemon's own files is refused, however it is named", async () => {
    const own = join(root, 'meta.db');
    await writeFile(own, '');
    await symlink(own, join(root, 'alias'));
    expect(await isRefused('meta.db', [own])).toBe(true);
    expect(await isRefused('alias', [own])).toBe(true);
    expect(await isRefused('.', [own])).toBe(true);
    expect(await isRefused('run/x', [join(root, 'run')])).toBe(true);
    expect(await resolved('meta.db2', [own])).toBe(join(root, 'meta.db2'));
  });

  it('lies in a folder by whole names', () => {
    expect(isAtOrBelow('/a/b', '/a')).toBe(true);
    expect(isAtOrBelow('/a', '/a')).toBe(true);
    expect(isAtOrBelow('/ab', '/a')).toBe(false);
    expect(isAtOrBelow('/x', '/')).toBe(true);
  });
});
