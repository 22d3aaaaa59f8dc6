import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  mkdirSync,
  openSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TestContext } from 'vitest';
import { GIB, KIB, MIB } from '../../../src/base/units.ts';
import { blockFileSystem as fs } from '../../../src/pool/block-file.ts';
import { tryLock } from '../../../src/pool/lock.ts';
import { preallocate } from '../../../src/pool/preallocate.ts';
import { describeBlockFile } from '../../contract/block-file.ts';
import { FaultyFileSystem } from '../../support/faulty-block-file.ts';

function temporary(): string {
  return mkdtempSync(join(tmpdir(), 'spindle-block-file-'));
}

describeBlockFile('real files', () => {
  const folder = temporary();
  return Promise.resolve({
    fs,
    path: (name) => join(folder, name),
    dispose: async () => rmSync(folder, { recursive: true }),
  });
});

describeBlockFile('in memory, without faults', () =>
  Promise.resolve({
    fs: new FaultyFileSystem(),
    path: (name) => `/memory/${name}`,
    dispose: async () => undefined,
  }),
);

describe('files of this machine', () => {
  let folder: string;
  beforeEach(() => {
    folder = temporary();
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('a new file and its new directories belong to the owner alone', async () => {
    const path = join(folder, 'a', 'b', 'pool');
    const file = await fs.create(path, MIB, false);
    await file.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, 'a')).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, 'a', 'b')).mode & 0o777).toBe(0o700);
  });

  it('preallocated room is taken at once, a sparse file takes none', async () => {
    const solid = await fs.create(join(folder, 'solid'), 2 * MIB, true);
    const sparse = await fs.create(join(folder, 'sparse'), 2 * MIB, false);
    await solid.close();
    await sparse.close();
    expect(statSync(solid.path).blocks * 512).toBeGreaterThanOrEqual(2 * MIB);
    expect(statSync(sparse.path).blocks * 512).toBeLessThan(64 * KIB);
  });

  it('the lock outlives the flock tool and keeps other processes out', async () => {
    const path = join(folder, 'pool');
    const file = await fs.create(path, MIB, false);
    expect(spawnSync('flock', ['-n', '-x', path, 'true']).status).toBe(1);
    await file.close();
    expect(spawnSync('flock', ['-n', '-x', path, 'true']).status).toBe(0);
  });

  it('without flock on the machine nothing is opened, and it says so', async () => {
    const fd = openSync(join(folder, 'pool'), 'w+');
    try {
      await expect(tryLock(fd, 'pool', 'flock-of-no-machine')).rejects.toMatchObject({
        code: 'POOL_UNAVAILABLE',
        message: expect.stringContaining('not installed') as string,
      });
    } finally {
      closeSync(fd);
    }
  });

  it('a lock that the tool cannot take is unavailable, not held', async () => {
    const fd = openSync(join(folder, 'pool'), 'w+');
    try {
      // a shell is no flock: it ends with a status of its own
      await expect(tryLock(fd, 'pool', 'sh')).rejects.toMatchObject({ code: 'POOL_UNAVAILABLE' });
    } finally {
      closeSync(fd);
    }
  });

  it('a directory is no pool file', async () => {
    mkdirSync(join(folder, 'directory'));
    const path = join(folder, 'directory');
    const refusal = { code: 'POOL_UNAVAILABLE' };
    await expect(fs.open(path)).rejects.toMatchObject(refusal);
    await expect(fs.create(path, 0, false)).rejects.toMatchObject(refusal);
  });

  it('a path through a file is unavailable', async () => {
    writeFileSync(join(folder, 'file'), 'x');
    await expect(fs.create(join(folder, 'file', 'pool'), MIB, false)).rejects.toMatchObject({
      code: 'POOL_UNAVAILABLE',
    });
  });

  it('more than the host has is refused before anything is touched', async () => {
    const host = statfsSync(folder);
    const path = join(folder, 'pool');
    const tooMuch = host.bavail * host.bsize + GIB;
    await expect(fs.create(path, tooMuch, true)).rejects.toMatchObject({ code: 'HOST_FULL' });
    expect(existsSync(path)).toBe(false);
    const file = await fs.create(path, MIB, true);
    await expect(file.grow(tooMuch, true)).rejects.toMatchObject({ code: 'HOST_FULL' });
    expect(file.sizeBytes).toBe(MIB);
    await file.close();
    expect(statSync(path).size).toBe(MIB);
  });

  it.each([
    ['is missing', 'fallocate-of-no-machine'],
    ['is not supported', 'false'],
  ])('where fallocate %s, zeros are written', async (_, tool) => {
    const path = join(folder, 'pool');
    const handle = await open(path, 'w+');
    await handle.write(Buffer.from('kept'), 0);
    await preallocate(handle, path, 4, 2 * MIB + 5, tool);
    const bytes = Buffer.alloc(2 * MIB + 5, 1);
    await handle.read(bytes, 0, bytes.length, 0);
    await handle.close();
    expect(bytes.equals(Buffer.concat([Buffer.from('kept'), Buffer.alloc(2 * MIB + 1)]))).toBe(
      true,
    );
    expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(2 * MIB);
  });

  it('a file that is cut while it is open is unreadable there, and only there', async () => {
    const file = await fs.create(join(folder, 'pool'), MIB, false);
    truncateSync(file.path, 8192);
    await expect(file.read(Buffer.alloc(4096), 6000)).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      details: { position: 6000, length: 4096 },
    });
    await file.read(Buffer.alloc(4096), 4096);
    await file.close();
  });
});

/** Runs a tool; undefined if it worked, else what to print as the reason to skip. */
function attempt(tool: string, ...args: string[]): { output: string; reason?: string } {
  const result = spawnSync(tool, args, { encoding: 'utf8' });
  if (result.status === 0) return { output: result.stdout.trim() };
  const said = result.error?.message ?? result.stderr.trim();
  return { output: '', reason: `${tool} does not work here: ${said}` };
}

/** Skips with the printed reason, but never where CI has prepared the machine. */
function skipBecause(context: TestContext, reason: string): never {
  if (process.env['CI'] !== undefined) throw new Error(reason);
  return context.skip(reason);
}

describe('a file system that gets full', () => {
  it('refuses the write as HOST_FULL, and the rest goes on', async (context) => {
    const folder = temporary();
    const mounted = attempt('mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder);
    try {
      if (mounted.reason !== undefined) return skipBecause(context, mounted.reason);
      const file = await fs.create(join(folder, 'pool'), 16 * MIB, false);
      try {
        const large = file.write([Buffer.alloc(8 * MIB, 1)], 0);
        await expect(large).rejects.toMatchObject({ code: 'HOST_FULL' });
        const small = file.write([Buffer.alloc(64 * KIB, 1)], 12 * MIB);
        await expect(small).rejects.toMatchObject({ code: 'HOST_FULL' });
        await file.read(Buffer.alloc(4096), 0);
        const solid = fs.create(join(folder, 'solid'), 8 * MIB, true);
        await expect(solid).rejects.toMatchObject({ code: 'HOST_FULL' });
        expect(existsSync(join(folder, 'solid'))).toBe(false);
      } finally {
        await file.close();
      }
    } finally {
      if (mounted.reason === undefined) attempt('umount', folder);
      rmSync(folder, { recursive: true });
    }
  });
});

describe('a raw block device', () => {
  let folder: string;
  let device: string | undefined;
  let reason: string | undefined;

  beforeEach(() => {
    folder = temporary();
    const image = join(folder, 'image');
    writeFileSync(image, Buffer.alloc(8 * MIB, 0xa5));
    const made = attempt('losetup', '-f', '--show', image);
    device = made.output;
    reason = made.reason;
  });

  afterEach(() => {
    if (reason === undefined && device !== undefined) attempt('losetup', '-d', device);
    rmSync(folder, { recursive: true });
  });

  it('is opened with its size, exclusively, and keeps what is written', async (context) => {
    if (reason !== undefined || device === undefined) return skipBecause(context, reason ?? '');
    const file = await fs.create(device, 4 * MIB, true);
    expect(file.kind).toBe('device');
    expect(file.sizeBytes).toBe(8 * MIB);
    await expect(fs.open(device)).rejects.toMatchObject({ code: 'POOL_FILE_LOCKED' });
    await file.write([Buffer.alloc(100, 1), Buffer.alloc(5000, 2)], 1000);
    await file.sync();
    await file.close();
    const again = await fs.open(device);
    const bytes = Buffer.alloc(5200);
    await again.read(bytes, 950);
    await again.close();
    const parts: [number, number][] = [
      [50, 0xa5],
      [100, 1],
      [5000, 2],
      [50, 0xa5],
    ];
    expect(bytes).toEqual(Buffer.concat(parts.map(([count, value]) => Buffer.alloc(count, value))));
  });

  it('cannot be larger than it is, and is never removed', async (context) => {
    if (reason !== undefined || device === undefined) return skipBecause(context, reason ?? '');
    await expect(fs.create(device, 8 * MIB + 1, false)).rejects.toMatchObject({
      code: 'VALIDATION_FAILED',
    });
    await fs.remove(device);
    expect(existsSync(device)).toBe(true);
    const file = await fs.open(device);
    await expect(file.grow(9 * MIB, true)).rejects.toMatchObject({ code: 'VALIDATION_FAILED' });
    await file.close();
  });
});
