/**
 * Images are the same bytes wherever and whenever they are made, and need nobody but the program
 * written from their description.
 */
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bytesOf, digest } from './content.ts';
import { needs, output, run } from './programs.ts';
import { root, Served } from './served.ts';

const MIB = 1024 ** 2;
const restoreProgram = join(root, 'tools', 'spindle-restore.py');

/** A daemon with the disk `d1` of 256 MiB, written here and there, and its copy `monday`. */
async function serveCopy(): Promise<Served> {
  const served = await Served.start();
  await served.post('/disks', { name: 'd1', capacity: '256MiB' });
  // whole blocks, parts of blocks, more than one segment of an image, and the last bytes
  const writes = [
    [0, 3 * MIB],
    [5 * MIB + 1234, 100_001],
    [64 * MIB - 77, 12 * MIB],
    [256 * MIB - 4096, 4096],
  ] as const;
  for (const [at, [offset, length]] of writes.entries()) {
    await served.put(`/disks/d1/data?offset=${offset}`, bytesOf(length, at));
  }
  await served.post('/disks/d1/copies', { name: 'monday' });
  await served.post('/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
  await served.post('/targets', { name: 'attic', kind: 'directory', path: 'attic' });
  return served;
}

/** Digest of the image as curl gets it. */
async function downloaded(served: Served, copy: string): Promise<string> {
  const file = join(served.directory, 'downloaded');
  await output('curl', ['-sS', '--fail', '-o', file, `${served.url}/copies/${copy}/image`]);
  const sum = digest(await readFile(file));
  await rm(file);
  return sum;
}

/** Makes a backup. @returns the digest of the file on the target */
async function backedUp(
  served: Served,
  { name, copy, target }: { name: string; copy: string; target: string },
): Promise<string> {
  const job = await served.post('/backups', { name, copy, target });
  await served.succeeded(job.id);
  return digest(await readFile(join(served.backupFolder(target, name), 'image.spindle')));
}

describe('the image of a copy', () => {
  it('is the same by curl and on each target, whatever becomes of the disk', async (test) => {
    needs(test, 'curl');
    const served = await serveCopy();
    const image = await downloaded(served, 'monday');
    const sums = [
      await downloaded(served, 'monday'),
      await backedUp(served, { name: 'b1', copy: 'monday', target: 'shelf' }),
      await backedUp(served, { name: 'b2', copy: 'monday', target: 'attic' }),
    ];
    const again = async (name: string, copy = 'monday'): Promise<void> => {
      sums.push(await downloaded(served, copy));
      sums.push(await backedUp(served, { name, copy, target: 'shelf' }));
    };
    await served.put('/disks/d1/data?offset=12345', bytesOf(2 * MIB, 9));
    await again('after-writing');
    await served.restart();
    await again('after-a-restart');
    await served.patch('/disks/d1', { name: 'renamed' });
    await again('after-a-rename');
    await served.delete('/disks/renamed');
    await again('after-a-deletion');
    await served.patch('/copies/monday', { name: 'tuesday' });
    await again('after-a-rename-of-the-copy', 'tuesday');
    await served.restart();
    await again('after-it-all', 'tuesday');
    expect(sums).toEqual(sums.map(() => image));
  });

  it('is restored with the daemon gone, as qemu-img confirms', async (test) => {
    needs(test, 'curl', 'python3', 'qemu-img');
    const served = await serveCopy();
    await backedUp(served, { name: 'b1', copy: 'monday', target: 'shelf' });
    const [seen, restored] = ['seen', 'restored'].map((name) => join(served.directory, name));
    const url = `${served.url}/copies/monday/data?view=full`;
    await output('curl', ['-sS', '--fail', '-o', seen!, url]);
    expect((await stat(seen!)).size).toBe(256 * MIB);
    await served.stop();

    const image = join(served.backupFolder('shelf', 'b1'), 'image.spindle');
    await output('python3', [restoreProgram, 'verify', image]);
    await output('python3', [restoreProgram, 'restore', image, restored!]);
    const formats = ['-f', 'raw', '-F', 'raw'];
    const said = await output('qemu-img', ['compare', ...formats, seen!, restored!]);
    expect(said).toContain('Images are identical.');
    const { blocks } = await stat(restored!);
    expect(blocks * 512).toBeLessThan(20 * MIB);
  });

  it('is refused by the daemon and by the program when one bit of it has changed', async (test) => {
    needs(test, 'curl', 'python3');
    const served = await serveCopy();
    const image = join(served.directory, 'image');
    const url = `${served.url}/copies/monday/image`;
    await output('curl', ['-sS', '--fail', '-o', image, url]);
    const bytes = await readFile(image);
    bytes[9 * MIB] = bytes[9 * MIB]! ^ 1;
    await writeFile(image, bytes);

    const { status } = await run('python3', [restoreProgram, 'verify', image]);
    expect(status).toBe(4);
    const upload = `${served.url}/restores?method=remap&disk=d2`;
    const problem = JSON.parse(await output('curl', ['-sS', '-X', 'POST', '-T', image, upload]));
    expect(problem).toMatchObject({ status: 400, code: 'IMAGE_DAMAGED' });
    const disks = (await served.get('/disks')).items as { name: string }[];
    expect(disks.map(({ name }) => name)).toEqual(['d1']);
  });
});
