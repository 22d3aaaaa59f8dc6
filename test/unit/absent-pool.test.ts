/**
 * A store of which one pool has lost a file: the other is served, and nothing of the lost one is
 * shown as something else or thrown away.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DaemonProcess, LocalDaemon, type Settings } from '../support/daemons.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MIB = 1024 * 1024;
const data = Uint8Array.from({ length: 2 * MIB }, (_, index) => index * 7 + (index >> 9));
const refusal = { status: 503, code: 'POOL_UNAVAILABLE' };

async function store(): Promise<{ given: Settings; second: string }> {
  const dir = join(await temporaryDirectory(), 'data');
  const given = { SPINDLE_DATA_DIR: dir, SPINDLE_POOL_BYTES: '32MiB' };
  return { given, second: join(dir, 'second.dat') };
}

/** A disk with `data` and its copy in each pool. */
async function fill(daemon: LocalDaemon | DaemonProcess, second: string): Promise<void> {
  const files = [{ path: second, sizeBytes: 32 * MIB }];
  expect((await daemon.post('/pools', { name: 'second', files })).status).toBe(201);
  for (const [name, pool] of [
    ['here', 'default'],
    ['lost', 'second'],
  ] as const) {
    await daemon.post('/disks', { name, pool, capacityBytes: 64 * MIB });
    await daemon.put(`/disks/${name}/data?offset=0`, data);
    await daemon.post(`/disks/${name}/copies`, { name: `${name}-copy` });
  }
}

async function problemOf(answer: Promise<Response>): Promise<unknown> {
  return (await answer).json();
}

it('serves what is in the others, refuses the rest, and has it again when it is back', async () => {
  const { given, second } = await store();
  const first = await LocalDaemon.ready(given);
  await fill(first, second);
  await first.stop();
  await rename(second, `${second}.away`);

  const daemon = await LocalDaemon.ready(given);
  expect(await daemon.get('/pools/second')).toMatchObject({ state: 'unavailable' });
  expect((await daemon.get('/pools/second'))['problem']).toContain(second);
  expect(await daemon.get('/pools/default')).toMatchObject({ state: 'ready', problem: null });
  const { findings } = await daemon.get('/check');
  expect(findings).toMatchObject([{ rule: 'POOL_UNAVAILABLE' }]);
  expect(await daemon.bytes('/disks/here/data?offset=0&length=2097152')).toEqual(Buffer.from(data));
  expect((await daemon.put('/disks/here/data?offset=65536', data)).status).toBe(204);

  expect(await daemon.get('/disks/lost')).toMatchObject({ usedBytes: 2 * MIB, pool: 'second' });
  expect((await daemon.get('/disks/lost/allocation'))['items']).toHaveLength(1);
  const refused = [
    daemon.fetch('/disks/lost/data?offset=0&length=512'),
    daemon.fetch('/copies/lost-copy/data?offset=0&length=512'),
    daemon.fetch('/copies/lost-copy/image'),
    daemon.put('/disks/lost/data?offset=0', data),
    daemon.fetch('/disks/lost/data?offset=0&length=65536', { method: 'DELETE' }),
    daemon.fetch('/disks/lost', { method: 'DELETE' }),
    daemon.fetch('/copies/lost-copy', { method: 'DELETE' }),
    daemon.patch('/disks/lost', { capacityBytes: 128 * MIB }),
    daemon.post('/disks/lost/copies', { name: 'another' }),
    daemon.post('/copies/lost-copy/restores', { method: 'remap', disk: 'd9' }),
    daemon.post('/disks', { name: 'd8', pool: 'second', capacityBytes: 512 }),
  ];
  for (const answer of refused) expect(await problemOf(answer)).toMatchObject(refusal);
  const { items } = await daemon.get('/disks');
  expect(items).toMatchObject([{ name: 'here' }, { name: 'lost', capacityBytes: 64 * MIB }]);
  expect(await daemon.stop()).toBe(true);

  await rename(`${second}.away`, second);
  const again = await LocalDaemon.ready(given);
  expect(await again.get('/pools/second')).toMatchObject({ state: 'ready', problem: null });
  for (const path of ['/disks/lost', '/copies/lost-copy']) {
    expect(await again.bytes(`${path}/data?offset=0&length=2097152`)).toEqual(Buffer.from(data));
  }
  expect((await again.put('/disks/lost/data?offset=0', data)).status).toBe(204);
  expect(await again.get('/check')).toEqual({ ok: true, findings: [] });
});

it('ends a job whose pool is gone with that reason', async () => {
  const { given, second } = await store();
  const first = await DaemonProcess.ready(given);
  await fill(first, second);
  await first.post('/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  const slow = { target: 'shelf', maxBytesPerSecond: 65536 };
  const made = await first.post('/backups', { name: 'b1', copy: 'lost-copy', ...slow });
  const { id } = (await made.json()) as { id: string };
  await first.post('/backups', { name: 'b2', disk: 'lost', ...slow });
  await first.end('SIGKILL');
  await rename(second, `${second}.away`);

  const daemon = await LocalDaemon.ready(given);
  const ended = await daemon.fetch(`/jobs/${id}`, { headers: { prefer: 'wait=20' } });
  const problem = { code: 'POOL_UNAVAILABLE' };
  expect(await ended.json()).toMatchObject({ state: 'failed', problem });
  const { items } = await daemon.get('/jobs?kind=backup');
  for (const job of items as { id: string }[]) {
    const last = await daemon.fetch(`/jobs/${job.id}`, { headers: { prefer: 'wait=20' } });
    expect(await last.json()).toMatchObject({ state: 'failed', problem });
  }
  await daemon.stop();
  await rename(`${second}.away`, second);
  const again = await LocalDaemon.ready(given);
  expect(await again.get('/check')).toEqual({ ok: true, findings: [] });
});

/** A copy in a pool of which the last 2 MiB of 6 are still owed. */
async function halfFilled(daemon: LocalDaemon, more: Record<string, unknown>): Promise<void> {
  const slow = { placement: 'dedicated', pool: 'second', maxBytesPerSecond: 1 };
  const made = await daemon.post('/disks/here/copies', { ...slow, ...more });
  const copy = (await made.json()) as { name: string; job: string };
  for (;;) {
    const { owedBlocks } = await daemon.get(`/copies/${copy.name}`);
    if (owedBlocks === 32) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await daemon.fetch(`/jobs/${copy.job}/pause`, { method: 'POST' });
}

it('serves a dedicated copy that was filled, of a disk whose pool is gone', async () => {
  const { given, second } = await store();
  const first = await LocalDaemon.ready(given);
  await fill(first, second);
  const wanted = { name: 'apart', placement: 'dedicated', pool: 'default' };
  const made = await first.post('/disks/lost/copies', wanted);
  const { job } = (await made.json()) as { job: string };
  await first.fetch(`/jobs/${job}`, { headers: { prefer: 'wait=20' } });
  await first.stop();
  await rename(second, `${second}.away`);

  const daemon = await LocalDaemon.ready(given);
  expect(await daemon.get('/copies/apart')).toMatchObject({ owedBlocks: 0, disk: 'lost' });
  expect(await daemon.bytes('/copies/apart/data')).toEqual(Buffer.from(data));
  const remapped = await daemon.post('/copies/apart/restores', { method: 'remap', disk: 'r1' });
  expect(remapped.status).toBe(201);
  expect((await daemon.fetch('/copies/apart', { method: 'DELETE' })).status).toBe(204);
  expect((await daemon.get('/check'))['findings']).toHaveLength(1);
});

it('does as it was told where the pool of a dedicated copy is gone', async () => {
  const { given, second } = await store();
  const first = await LocalDaemon.ready(given);
  await fill(first, second);
  for (const mib of [2, 4]) await first.put(`/disks/here/data?offset=${mib * MIB}`, data);
  await halfFilled(first, { name: 'strict', preserve: 'copy-first' });
  const frail = { preserve: 'copy-first', onPreserveError: 'invalidate-copy' };
  await halfFilled(first, { name: 'frail', ...frail });
  await first.stop();
  await rename(second, `${second}.away`);

  const daemon = await LocalDaemon.ready(given);
  const write = (): Promise<Response> => daemon.put(`/disks/here/data?offset=${4 * MIB}`, data);
  expect(await problemOf(write())).toMatchObject({ ...refusal, copy: 'strict' });
  expect(await daemon.bytes('/copies/strict/data?offset=4194304')).toEqual(Buffer.from(data));
  await daemon.stop();
  await rename(`${second}.away`, second);
  const again = await LocalDaemon.ready(given);
  expect((await again.fetch('/copies/strict', { method: 'DELETE' })).status).toBe(204);
  await again.stop();
  await rename(second, `${second}.away`);

  const last = await LocalDaemon.ready(given);
  expect((await last.put(`/disks/here/data?offset=${4 * MIB}`, data)).status).toBe(204);
  const problem = { code: 'POOL_UNAVAILABLE' };
  expect(await last.get('/copies/frail')).toMatchObject({ state: 'invalid', problem });
  const invalid = { status: 409, code: 'COPY_INVALID', reason: problem };
  for (const path of ['data', 'image', 'correspondence', 'allocation', 'data-blocks']) {
    expect(await problemOf(last.fetch(`/copies/frail/${path}`))).toMatchObject(invalid);
  }
  const restore = { method: 'remap', disk: 'r1' };
  expect(await problemOf(last.post('/copies/frail/restores', restore))).toMatchObject(invalid);
  await last.post('/targets', { name: 'shelf', kind: 'directory', path: 'backups' });
  const backup = { name: 'b1', copy: 'frail', target: 'shelf' };
  expect(await problemOf(last.post('/backups', backup))).toMatchObject(invalid);
  expect((await last.get('/copies'))['items']).toContainEqual(
    expect.objectContaining({ name: 'frail', state: 'invalid', usedBlocks: 96 }),
  );
  await last.stop();
  await rename(`${second}.away`, second);
  const end = await LocalDaemon.ready(given);
  expect((await end.fetch('/copies/frail', { method: 'DELETE' })).status).toBe(204);
  expect(await end.get('/check')).toEqual({ ok: true, findings: [] });
});
