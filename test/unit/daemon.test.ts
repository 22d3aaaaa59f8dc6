import { existsSync, readdirSync, statSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Client, DaemonProcess, LocalDaemon, type Settings } from '../support/daemons.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MIB = 1024 * 1024;

/** Settings of a data directory that is not there yet, and its path. */
async function fresh(more: Settings = {}): Promise<{ given: Settings; dir: string }> {
  const dir = join(await temporaryDirectory(), 'data');
  return { given: { SPINDLE_DATA_DIR: dir, SPINDLE_POOL_BYTES: '32MiB', ...more }, dir };
}

function bytes(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => index * 31 + Math.floor(index / 256));
}

/** A disk with 4 MiB and a backup job of it that takes its time. */
async function beginBackup(daemon: Client, maxBytesPerSecond = MIB): Promise<string> {
  await daemon.post('/disks', { name: 'd1', capacityBytes: 64 * MIB });
  await daemon.put('/disks/d1/data?offset=0', bytes(4 * MIB));
  await daemon.post('/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  const request = { name: 'b1', disk: 'd1', target: 'shelf', maxBytesPerSecond };
  const answer = await daemon.post('/backups', request);
  return ((await answer.json()) as { id: string }).id;
}

describe('a first start', () => {
  it('makes a private directory and the default pool, and serves', async () => {
    const { given, dir } = await fresh();
    const daemon = await DaemonProcess.ready(given);
    const path = join(dir, 'pool-default.dat');
    const files = [{ path, sizeBytes: 32 * MIB }];
    expect(await daemon.get('/pools/default')).toMatchObject({ state: 'ready', files });
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    const names = readdirSync(dir);
    expect(names).toContain('meta.db');
    expect(names.filter((name) => (statSync(join(dir, name)).mode & 0o077) !== 0)).toEqual([]);
    daemon.signal('SIGTERM');
    expect(await daemon.end('SIGTERM')).toEqual({ code: 0, signal: null, said: '' });
  });

  it('without room for the pool names the setting, and the next one may succeed', async () => {
    const { given } = await fresh();
    const large = new DaemonProcess({ ...given, SPINDLE_POOL_BYTES: '100TiB' });
    const { code, said } = await large.ended;
    expect(code).toBe(1);
    expect(said).toMatch(/^spindle: HOST_FULL: .*no room.*SPINDLE_POOL_BYTES.*\n$/);
    const daemon = await LocalDaemon.ready(given);
    expect(await daemon.get('/pools/default')).toMatchObject({ name: 'default' });
  });
});

describe('a start that is refused', () => {
  it('names the process that has the data directory, and exits with 3', async () => {
    const { given } = await fresh();
    const first = await LocalDaemon.ready(given);
    const { code, said } = await new DaemonProcess(given).ended;
    expect(code).toBe(3);
    expect(said).toMatch(
      new RegExp(`^spindle: STORE_LOCKED: the data directory .* process ${process.pid}\n$`),
    );
    expect((await first.fetch('/disks')).status).toBe(200);
  });

  it('names a setting that cannot be used, and exits with 2', async () => {
    const { given } = await fresh({ SPINDLE_PORT: 'x' });
    const { code, said } = await new DaemonProcess(given).ended;
    expect(code).toBe(2);
    expect(said).toMatch(/^spindle: environment SPINDLE_PORT.*\n$/);
    const tooSmall = { ...given, SPINDLE_PORT: '0', SPINDLE_POOL_BYTES: '1MiB' };
    const small = await new DaemonProcess(tooSmall).ended;
    expect(small.code).toBe(2);
    expect(small.said).toMatch(/^spindle: VALIDATION_FAILED: .*SPINDLE_POOL_BYTES.*\n$/);
  });

  it('names a port that is taken, and leaves nothing open', async () => {
    const { given } = await fresh();
    const first = await LocalDaemon.ready((await fresh()).given);
    const { port } = new URL(first.url);
    await expect(LocalDaemon.ready({ ...given, SPINDLE_PORT: port })).rejects.toThrow(
      `cannot listen on 127.0.0.1, port ${port}: EADDRINUSE`,
    );
    await LocalDaemon.ready(given);
  });

  it('names a pool file that is gone; with the file it starts again', async () => {
    const { given, dir } = await fresh();
    await (await LocalDaemon.ready(given)).stop();
    const path = join(dir, 'pool-default.dat');
    await rename(path, `${path}.away`);
    await expect(LocalDaemon.ready(given)).rejects.toMatchObject({
      code: 'POOL_UNAVAILABLE',
      details: { path },
    });
    await rename(`${path}.away`, path);
    await LocalDaemon.ready(given);
  });
});

describe('a restart', () => {
  it.each(['stop', 'SIGKILL'] as const)('after %s has everything', async (end) => {
    const { given } = await fresh();
    const data = bytes(300_000);
    const first = await DaemonProcess.ready(given);
    await first.post('/disks', { name: 'd1', capacityBytes: 1024 * MIB, labels: { a: 'b' } });
    expect((await first.put('/disks/d1/data?offset=70000', data)).status).toBe(204);
    await first.post('/disks/d1/copies', { name: 'monday' });
    await first.put('/disks/d1/data?offset=70000', new Uint8Array(5000).fill(7));
    await first.post('/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
    const views = ['/disks', '/copies', '/targets', '/jobs'];
    const before = await Promise.all(views.map((path) => first.get(path)));
    await first.end(end === 'stop' ? 'SIGTERM' : end);

    const second = await LocalDaemon.ready(given);
    expect(await Promise.all(views.map((path) => second.get(path)))).toEqual(before);
    const range = `offset=70000&length=${data.length}`;
    const copied = await second.bytes(`/copies/monday/data?view=full&${range}`);
    expect(copied.equals(data)).toBe(true);
    const now = await second.bytes(`/disks/d1/data?${range}`);
    expect(now.subarray(0, 5000).every((byte) => byte === 7)).toBe(true);
    expect(now.subarray(5000).equals(data.subarray(5000))).toBe(true);
    expect(await second.get('/check')).toEqual({ ok: true, findings: [] });
    expect(second.log).toEqual([]);
  });

  it('does not bring back a default pool that was deleted', async () => {
    const { given } = await fresh();
    const first = await LocalDaemon.ready(given);
    expect((await first.fetch('/pools/default', { method: 'DELETE' })).status).toBe(204);
    await first.stop();
    const second = await LocalDaemon.ready(given);
    expect(await second.get('/pools')).toMatchObject({ items: [] });
  });

  it('finishes a backup that a kill cut off', async () => {
    const { given, dir } = await fresh();
    const first = await DaemonProcess.ready(given);
    const job = await beginBackup(first);
    await first.end('SIGKILL');
    const second = await LocalDaemon.ready(given);
    await second.patch(`/jobs/${job}`, { maxBytesPerSecond: null });
    const waited = await second.fetch(`/jobs/${job}`, { headers: { prefer: 'wait=20' } });
    expect(await waited.json()).toMatchObject({ state: 'succeeded', result: { backup: 'b1' } });
    const folder = join(dir, 'backups', 'b1');
    expect(readdirSync(folder).sort()).toEqual(['image.spindle', 'manifest.json']);
  });
});

describe('stopping', () => {
  it('leaves a copy of the database, and the database without a log', async () => {
    const { given, dir } = await fresh();
    const daemon = await LocalDaemon.ready(given);
    expect(await daemon.stop()).toBe(true);
    expect(existsSync(join(dir, 'meta-copy.db'))).toBe(true);
    expect(existsSync(join(dir, 'meta.db-wal'))).toBe(false);
  });

  it('leaves the copy in the place that was set, which no target may have', async () => {
    const place = await temporaryDirectory();
    const copy = join(place, 'copy.db');
    const { given, dir } = await fresh({ SPINDLE_METADATA_COPY: copy, SPINDLE_ROOTS: place });
    const daemon = await LocalDaemon.ready(given);
    const body = { name: 'shelf', kind: 'directory', path: copy };
    expect((await daemon.post('/targets', body)).status).toBe(400);
    expect(await daemon.stop()).toBe(true);
    expect(existsSync(copy)).toBe(true);
    expect(existsSync(join(dir, 'meta-copy.db'))).toBe(false);
  });

  it('parks a backup, and the next start goes on with it', async () => {
    const { given } = await fresh();
    const first = await LocalDaemon.ready(given);
    const job = await beginBackup(first);
    expect(await first.stop()).toBe(true);
    const second = await LocalDaemon.ready(given);
    expect(['queued', 'running']).toContain((await second.get(`/jobs/${job}`))['state']);
    const cancelled = await second.fetch(`/jobs/${job}/cancel`, { method: 'POST' });
    expect(cancelled.status).toBe(200);
  });

  it('answers a long poll at once', async () => {
    const daemon = await LocalDaemon.ready((await fresh()).given);
    const job = await beginBackup(daemon, 1024);
    const poll = daemon.fetch(`/jobs/${job}`, { headers: { prefer: 'wait=60' } });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await daemon.stop()).toBe(true);
    expect((await poll).status).toBe(200);
  });

  it('while everything is being opened ends the start', async () => {
    const { given } = await fresh();
    const local = new LocalDaemon(given);
    const started = local.daemon.start();
    const stopped = local.daemon.stop();
    await expect(started).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(await stopped).toBe(true);
    await LocalDaemon.ready(given);
  });
});

describe('paths', () => {
  it('of pools and targets keep away from the daemon and from each other', async () => {
    const daemon = await LocalDaemon.ready((await fresh()).given);
    const target = (path: string): Promise<Response> =>
      daemon.post('/targets', { name: `t${path.length}`, kind: 'directory', path });
    const pool = (path: string): Promise<Response> =>
      daemon.post('/pools', { name: `p${path.length}`, files: [{ path, sizeBytes: 16 * MIB }] });
    expect((await target('shelf')).status).toBe(201);
    for (const path of ['.', '..', '/etc', 'meta.db', 'pool-default.dat', 'shelf/inner']) {
      const answer = await target(path);
      expect(answer.status, path).toBe(400);
      expect(await answer.json()).toMatchObject({ code: 'PATH_NOT_ALLOWED', field: 'path' });
    }
    for (const path of ['meta.db-wal', 'shelf/pool.dat', '/tmp/pool.dat', '/dev/null']) {
      expect((await pool(path)).status, path).toBe(400);
    }
    expect((await pool('more/pool.dat')).status).toBe(201);
    expect((await pool('more/pool.dat')).status).toBe(200);
    expect((await target('more')).status).toBe(400);
  });

  it('may lie below further roots', async () => {
    const other = await temporaryDirectory();
    const daemon = await LocalDaemon.ready((await fresh({ SPINDLE_ROOTS: other })).given);
    const body = { name: 'shelf', kind: 'directory', path: 'sub/shelf' };
    const made = await daemon.post('/targets', body);
    expect(await made.json()).toMatchObject({ path: join(other, 'sub', 'shelf') });
    expect((await daemon.post('/targets', body)).status).toBe(200);
  });
});
