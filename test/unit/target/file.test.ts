import { mkdir, mkdtemp, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StorageError } from '../../../src/base/errors.ts';
import { DirectoryTarget } from '../../../src/target/file.ts';
import { describeTarget, patterned } from '../../contract/target.ts';
import type { TargetHarness } from '../../contract/target.ts';
import { WickedFiles } from '../../support/wicked-files.ts';

async function harness(direct: WickedFiles['refuseDirect']): Promise<TargetHarness> {
  const base = await mkdtemp(join(tmpdir(), 'spindle-target-'));
  const files = new WickedFiles();
  files.refuseDirect = direct;
  return {
    target: await DirectoryTarget.create(base, { files }),
    reopen: () => DirectoryTarget.create(base, { files }),
    cutPower: () => files.cutPower(),
    failWrites: (kind) => files.fail('write', kind === 'full' ? 'ENOSPC' : 'EIO'),
    mend: () => files.mend(),
    dispose: async () => {
      expect(files.openCount).toBe(0);
      await rm(base, { recursive: true });
    },
  };
}

describeTarget('directory', () => harness('never'));
describeTarget('directory (no O_DIRECT at open)', () => harness('at-open'));
describeTarget('directory (no O_DIRECT at the first write)', () => harness('at-write'));

describe('a directory target', () => {
  let base: string;
  let files: WickedFiles;
  let target: DirectoryTarget;
  const code = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'no error',
      (error: unknown) => (error as StorageError).code,
    );

  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'spindle-target-'));
    files = new WickedFiles();
    target = await DirectoryTarget.create(base, { files });
  });

  afterEach(async () => {
    await rm(base, { recursive: true, force: true });
  });

  const store = async (name: string, bytes: Uint8Array): Promise<void> => {
    const sink = await target.createBackup(name);
    await sink.write([bytes]);
    await sink.commit({ format: 'spindle-backup' });
  };

  const listed = async (): Promise<string[]> => {
    const names: string[] = [];
    for await (const { name, complete } of target.list()) names.push(`${name} ${complete}`);
    return names.sort();
  };

  it('holds the plain image and the manifest, for the owner only', async () => {
    await store('b1', patterned(5000));
    expect((await readdir(join(base, 'b1'))).sort()).toEqual(['image.spindle', 'manifest.json']);
    expect(readFileSync(join(base, 'b1', 'image.spindle')).equals(patterned(5000))).toBe(true);
    expect(JSON.parse(readFileSync(join(base, 'b1', 'manifest.json'), 'utf8'))).toEqual({
      format: 'spindle-backup',
    });
    const modes = ['b1', 'b1/image.spindle', 'b1/manifest.json'].map(
      async (path) => (await stat(join(base, path))).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o700, 0o600, 0o600]);
  });

  it('makes a base that is not there, for the owner only', async () => {
    await DirectoryTarget.create(join(base, 'deep', 'shelf'));
    expect((await stat(join(base, 'deep', 'shelf'))).mode & 0o777).toBe(0o700);
  });

  it('whose base is gone is unavailable, not empty', async () => {
    await rm(base, { recursive: true });
    const sum = async (): Promise<void> => {
      for await (const entry of target.list()) expect(entry).toBeUndefined();
    };
    const works = [
      sum,
      () => target.createBackup('b1'),
      () => target.open('b1'),
      () => target.remove('b1'),
      () => target.freeBytes(),
    ];
    for (const work of works) expect(await code(work())).toBe('TARGET_UNAVAILABLE');
  });

  it('whose base is a file is unavailable', async () => {
    const path = join(base, 'file');
    await writeFile(path, '');
    expect(await code(DirectoryTarget.create(path))).toBe('TARGET_UNAVAILABLE');
  });

  it('cut between the two renames has an incomplete backup that goes on', async () => {
    const bytes = patterned(2_000_000);
    await store('b1', bytes);
    await rename(join(base, 'b1', 'manifest.json'), join(base, 'b1', 'manifest.json.partial'));
    expect(await code(target.open('b1'))).toBe('BACKUP_INCOMPLETE');
    const sink = await target.createBackup('b1', { resumeFrom: bytes.length });
    await sink.commit({ format: 2 });
    expect(await target.readManifest('b1')).toEqual({ format: 2 });
    expect(readFileSync(join(base, 'b1', 'image.spindle')).equals(bytes)).toBe(true);
    expect((await readdir(join(base, 'b1'))).sort()).toEqual(['image.spindle', 'manifest.json']);
  });

  describe('without a manifest', () => {
    const ours = patterned(8192);
    const owns = (head: Uint8Array): boolean => ours.subarray(0, 4096).equals(head);

    async function lies(file: string, bytes: Uint8Array): Promise<string> {
      await mkdir(join(base, 'b1'));
      const path = join(base, 'b1', file);
      await writeFile(path, bytes);
      return path;
    }

    it.each([
      ['image.spindle', 'of another image', Buffer.alloc(8192, 7)],
      ['image.spindle', 'of no image', Buffer.from('precious')],
      ['image.spindle', 'of zeros', Buffer.alloc(8192)],
      ['image.spindle', 'of nothing', Buffer.alloc(0)],
      ['image.spindle.partial', 'of another image', Buffer.alloc(8192, 7)],
    ])('leaves %s %s as it is', async (file, _, bytes) => {
      const path = await lies(file, bytes);
      for (const resumeFrom of [0, 4096]) {
        expect(await code(target.createBackup('b1', { owns, resumeFrom }))).toBe('NAME_TAKEN');
      }
      expect(await code(target.remove('b1', owns))).toBe('NAME_TAKEN');
      expect(readFileSync(path).equals(bytes)).toBe(true);
      expect(files.openCount).toBe(0);
      await target.remove('b1');
      expect(await readdir(base)).toEqual([]);
    });

    it.each([
      ['image.spindle', 'of the same image', ours],
      ['image.spindle.partial', 'of the same image', ours],
      ['image.spindle.partial', 'of zeros', Buffer.alloc(8192)],
      ['image.spindle.partial', 'shorter than a header', Buffer.from('Spin')],
    ])('begins %s %s anew', async (file, _, bytes) => {
      await lies(file, bytes);
      const sink = await target.createBackup('b1', { owns });
      await sink.write([ours]);
      await sink.commit({});
      expect(readFileSync(join(base, 'b1', 'image.spindle')).equals(ours)).toBe(true);
      await target.remove('b1', owns);
      expect(await readdir(base)).toEqual([]);
    });
  });

  it('that lost an image does not call its backup complete', async () => {
    await store('b1', patterned(100));
    await rm(join(base, 'b1', 'image.spindle'));
    expect(await code(target.open('b1'))).toBe('BACKUP_INCOMPLETE');
    await store('b1', patterned(200));
    expect((await target.open('b1').then(async (b) => (await b.close(), b))).sizeBytes).toBe(200);
  });

  it('leaves the files of others where they are', async () => {
    await mkdir(join(base, 'photos'));
    await writeFile(join(base, 'photos', 'cat.jpg'), 'cat');
    await writeFile(join(base, 'notes.txt'), 'note');
    await store('b1', patterned(10));
    await writeFile(join(base, 'b1', 'README'), 'mine');
    const names: string[] = [];
    for await (const entry of target.list()) names.push(entry.name);
    expect(names).toEqual(['b1']);
    expect(await code(target.remove('photos'))).toBe('NOT_FOUND');
    for (const name of ['notes.txt', 'photos']) {
      expect(await code(target.createBackup(name))).toBe('NAME_TAKEN');
    }
    await target.remove('b1');
    expect(await readdir(join(base, 'b1'))).toEqual(['README']);
    expect(await readdir(join(base, 'photos'))).toEqual(['cat.jpg']);
  });

  it('follows no symbolic link below its base', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'spindle-outside-'));
    await symlink(outside, join(base, 'b1'));
    expect(await code(target.createBackup('b1'))).toBe('NAME_TAKEN');
    expect(await code(target.remove('b1'))).toBe('NOT_FOUND');
    await mkdir(join(base, 'b2'));
    await symlink(join(outside, 'x'), join(base, 'b2', 'image.spindle.partial'));
    expect(await code(target.createBackup('b2'))).toBe('NAME_TAKEN');
    await store('b3', patterned(10));
    await rm(join(base, 'b3', 'manifest.json'));
    await symlink('/etc/passwd', join(base, 'b3', 'manifest.json'));
    expect(await code(target.readManifest('b3'))).toBe('BACKUP_INCOMPLETE');
    expect(await listed()).toEqual(['b3 false']);
    expect(await readdir(outside)).toEqual([]);
    await rm(outside, { recursive: true });
    expect(files.openCount).toBe(0);
  });

  it('is away where a link has taken the place of its base', async () => {
    await store('b1', patterned(10));
    const outside = join(await mkdtemp(join(tmpdir(), 'spindle-outside-')), 'bk');
    await rename(base, outside);
    await symlink(outside, base);
    expect(await code(target.createBackup('b2'))).toBe('TARGET_UNAVAILABLE');
    expect(await code(target.open('b1'))).toBe('TARGET_UNAVAILABLE');
    expect(await code(target.remove('b1'))).toBe('TARGET_UNAVAILABLE');
    expect(await code(listed())).toBe('TARGET_UNAVAILABLE');
    expect(await readdir(outside)).toEqual(['b1']);
    await rm(base);
    await rename(outside, base);
    expect(await listed()).toEqual(['b1 true']);
  });

  it.each(['a link', 'a folder'])('takes %s for no image, and leaves it alone', async (what) => {
    await store('b1', patterned(10));
    const image = join(base, 'b1', 'image.spindle');
    await rename(image, join(base, 'elsewhere'));
    if (what === 'a folder') await mkdir(image);
    else await symlink(join(base, 'elsewhere'), image);
    expect(await listed()).toEqual(['b1 false']);
    for (const call of ['open', 'readManifest'] as const) {
      expect(await code(target[call]('b1'))).toBe('BACKUP_INCOMPLETE');
    }
    expect(await code(target.createBackup('b1'))).toBe('NAME_TAKEN');
    await target.remove('b1');
    expect((await readdir(join(base, 'b1'))).sort()).toEqual(['image.spindle', 'manifest.json']);
    expect(files.openCount).toBe(0);
  });

  it.each(['', '{', '{"name":"app"}'])(
    'leaves a folder with the manifest %j alone',
    async (text) => {
      await mkdir(join(base, 'junk'));
      await writeFile(join(base, 'junk', 'manifest.json'), text);
      await expect(target.createBackup('junk')).rejects.toMatchObject({
        code: 'NAME_TAKEN',
        message: expect.stringContaining(join(base, 'junk')) as string,
        details: { target: base, backup: 'junk' },
      });
      expect(await code(target.remove('junk'))).toBe('NOT_FOUND');
      expect(await listed()).toEqual([]);
      expect(await readdir(join(base, 'junk'))).toEqual(['manifest.json']);
      expect(readFileSync(join(base, 'junk', 'manifest.json'), 'utf8')).toBe(text);
    },
  );

  it.each(['', '{', '[]', '1', 'null'])('refuses the manifest %j', async (text) => {
    await store('b1', patterned(10));
    await writeFile(join(base, 'b1', 'manifest.json'), text);
    expect(await code(target.readManifest('b1'))).toBe('TARGET_INVALID');
  });

  it('refuses a manifest of more than 1 MiB', async () => {
    await store('b1', patterned(10));
    await writeFile(join(base, 'b1', 'manifest.json'), `{"a":"${'x'.repeat(1024 * 1024)}"}`);
    expect(await code(target.readManifest('b1'))).toBe('TARGET_INVALID');
  });

  it('names the range that it cannot read, and reads the others', async () => {
    await store('b1', patterned(10_000));
    const backup = await target.open('b1');
    files.fail('read', 'EIO');
    const error = await backup.read(4096, Buffer.alloc(512)).then(
      () => undefined,
      (thrown: unknown) => thrown as StorageError,
    );
    expect(error?.code).toBe('DATA_UNREADABLE');
    expect(error?.details).toMatchObject({ backup: 'b1', offset: 4096, length: 512 });
    files.mend();
    await backup.read(0, Buffer.alloc(10_000));
    await backup.close();
  });

  it('does not confirm after a failed sync, and not later either', async () => {
    const sink = await target.createBackup('b1');
    await sink.write([patterned(100_000)]);
    files.fail('sync', 'EIO');
    expect(await code(sink.confirm())).toBe('TARGET_UNAVAILABLE');
    files.mend();
    expect(await code(sink.confirm())).toBe('TARGET_UNAVAILABLE');
    expect(await code(sink.commit({}))).toBe('TARGET_UNAVAILABLE');
    await sink.abort(false);
    expect(await readdir(base)).toEqual([]);
  });

  it('tells how many bytes a full target had taken', async () => {
    const sink = await target.createBackup('b1');
    files.fail('write', 'ENOSPC', 1);
    const error = await sink.write([patterned(8 * 1024 * 1024)]).then(
      () => sink.confirm(),
      (thrown: unknown) => thrown as StorageError,
    );
    expect(error).toMatchObject({ code: 'TARGET_FULL', details: { target: base, backup: 'b1' } });
    await sink.abort(false);
  });

  it('that became full can still commit what it has', async () => {
    const first = await target.createBackup('b1');
    await first.write([patterned(40_000)]);
    const confirmed = await first.confirm();
    await first.abort(true);
    files.fail('write', 'ENOSPC');
    const second = await target.createBackup('b1', { resumeFrom: confirmed });
    await second.commit({ format: 1 });
    expect(readFileSync(join(base, 'b1', 'image.spindle')).equals(patterned(40_000))).toBe(true);
  });

  it('takes short writes for what they are', async () => {
    files.shortWriteBytes = 10_000;
    await store('b1', patterned(3_000_000));
    expect(readFileSync(join(base, 'b1', 'image.spindle')).equals(patterned(3_000_000))).toBe(true);
  });

  it.each(['open', 'write', 'read', 'sync', 'truncate'] as const)(
    'leaks no descriptor when %s fails at any time',
    async (operation) => {
      const first = await target.createBackup('b1');
      await first.write([patterned(5000)]);
      await first.confirm();
      await first.abort(true);
      for (let after = 0; after < 6; after += 1) {
        files.fail(operation, 'EIO', after);
        const sink = await target.createBackup('b1', { resumeFrom: 5000 }).catch(() => undefined);
        await sink?.write([patterned(3_000_000)]).catch(() => undefined);
        await sink?.confirm().catch(() => undefined);
        await sink?.abort(true);
        files.mend();
        expect(files.openCount).toBe(0);
      }
    },
  );
});
