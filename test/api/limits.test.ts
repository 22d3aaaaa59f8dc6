import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK = 64 * KIB;

function put(json: unknown, headers: Record<string, string> = {}) {
  return { method: 'PUT', json, headers };
}

async function untilIdle(api: ApiWorld, disk: string): Promise<void> {
  while (api.services.disks.get(disk).users().length > 0) await sleep(5);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function timed<T>(work: Promise<T>): Promise<{ seconds: number; result: T }> {
  const begin = performance.now();
  const result = await work;
  return { seconds: (performance.now() - begin) / 1000, result };
}

describe('limits', () => {
  it('are none at first, set as a whole, and change the version of the disk', async () => {
    const api = await ApiWorld.start();
    const { id } = await api.disk('d1');
    const none = await api.get('/disks/d1/limits');
    const names = { disk: 'd1', diskId: id, usedBytes: 0 };
    expect(none.body).toEqual({ ...names, maxBytesPerSecond: null, quotaBytes: null });
    expect(none.headers.get('etag')).toBe((await api.get('/disks/d1')).headers.get('etag'));
    const limits = { maxBytesPerSecond: 9 * MIB, quotaBytes: 0 };
    const set = await api.ask('/disks/d1/limits', put(limits));
    expect(set.body).toEqual({ ...names, ...limits });
    expect((await api.get(`/disks/${id}/limits`)).body).toEqual(set.body);
    const tag = set.headers.get('etag')!;
    expect(tag).not.toBe(none.headers.get('etag'));
    expect(tag).toBe((await api.get('/disks/d1')).headers.get('etag'));
    const old = put({}, { 'if-match': none.headers.get('etag')! });
    await api.refused('/disks/d1/limits', old, 412, 'PRECONDITION_FAILED');
    const gone = await api.ask('/disks/d1/limits', put({}, { 'if-match': tag }));
    expect(gone.body).toEqual(none.body);
    await api.refused('/disks/none/limits', {}, 404, 'NOT_FOUND');
    await api.refused('/disks/none/limits', put({}), 404, 'NOT_FOUND');
  });

  it.each([
    [{ maxBytesPerSecond: 4095 }],
    [{ maxBytesPerSecond: 1.5 }],
    [{ maxBytesPerSecond: '1MiB' }],
    [{ quotaBytes: -1 }],
    [{ quotaBytes: 2 ** 53 }],
    [{ quota: '1GiB' }],
  ])('are refused with %j', async (json) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.refused('/disks/d1/limits', put(json), 400, 'VALIDATION_FAILED');
  });
});

describe('a quota', () => {
  it('is 507 for what would map more, and nothing for what is mapped', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.ask('/disks/d1/limits', put({ quotaBytes: 2 * BLOCK }));
    await api.put('/disks/d1/data', randomBytes(2 * BLOCK));
    const more = { method: 'PUT', body: randomBytes(2 * BLOCK) };
    const refused = await api.refused(
      `/disks/d1/data?offset=${BLOCK}`,
      more,
      507,
      'QUOTA_EXCEEDED',
    );
    expect(refused).toMatchObject({ disk: 'd1', retryable: true, writtenBytes: 0 });
    expect((await api.get('/disks/d1/limits')).body.usedBytes).toBe(2 * BLOCK);
    const bytes = randomBytes(2 * BLOCK);
    expect(await api.put('/disks/d1/data', bytes)).toMatchObject({ status: 204 });
    await api.ask(`/disks/d1/data?offset=0&length=${BLOCK}`, { method: 'DELETE' });
    expect(await api.put(`/disks/d1/data?offset=${9 * BLOCK}`, randomBytes(1))).toMatchObject({
      status: 204,
    });
    const found = await api.get(`/disks/d1/data?offset=${BLOCK}&length=${BLOCK}`);
    expect(found.bytes.equals(bytes.subarray(BLOCK))).toBe(true);
  });

  it('ends a large body where it is used up, and tells the prefix that is durable', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.ask('/disks/d1/limits', put({ quotaBytes: 3 * MIB }));
    const body = randomBytes(6 * MIB);
    const refused = await api.refused(
      '/disks/d1/data',
      { method: 'PUT', body },
      507,
      'QUOTA_EXCEEDED',
    );
    expect(refused.writtenBytes).toBe(3 * MIB);
    const found = await api.get(`/disks/d1/data?length=${6 * MIB}`);
    expect(
      found.bytes.equals(Buffer.concat([body.subarray(0, 3 * MIB), Buffer.alloc(3 * MIB)])),
    ).toBe(true);
  });

  it('refuses a large body before it is sent, where its bytes cannot matter', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1', { detectZeroes: false });
    await api.ask('/disks/d1/limits', put({ quotaBytes: 3 * MIB }));
    const body = randomBytes(6 * MIB);
    const refused = await api.refused(
      '/disks/d1/data',
      { method: 'PUT', body },
      507,
      'QUOTA_EXCEEDED',
    );
    expect(refused.writtenBytes).toBe(0);
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(0);
  });
});

describe('a rate limit', () => {
  it('holds for reads and writes together, whole bodies and streams', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.ask('/disks/d1/limits', put({ maxBytesPerSecond: 4 * MIB }));
    const bytes = randomBytes(6 * MIB);
    const written = await timed(api.put('/disks/d1/data', bytes));
    expect(written.result.status).toBe(204);
    // all but a burst and the last step has to wait
    expect(written.seconds).toBeGreaterThan(0.9);
    const [read, small] = await Promise.all([
      timed(api.get(`/disks/d1/data?length=${4 * MIB}`)),
      timed(api.put('/disks/d1/data', bytes.subarray(0, 2 * MIB))),
    ]);
    expect(read.result.bytes.equals(bytes.subarray(0, 4 * MIB))).toBe(true);
    expect(small.result.status).toBe(204);
    expect(read.seconds).toBeGreaterThan(0.9);
    await api.ask('/disks/d1/limits', put({}));
    expect((await timed(api.get('/disks/d1/data'))).seconds).toBeLessThan(8);
  });

  it('keeps others neither from memory nor from their own disks', async () => {
    const api = await ApiWorld.start({
      limits: { shutdownGraceMs: 10, bodyMemoryBytes: 4 * MIB, memoryWaitMs: 1000 },
    });
    await api.disk('slow');
    await api.disk('d1');
    await api.ask('/disks/slow/limits', put({ maxBytesPerSecond: 16 * KIB }));
    const ends = new AbortController();
    const init = { method: 'PUT', body: randomBytes(6 * MIB), signal: ends.signal };
    const url = `${api.origin}/v1/disks/slow/data`;
    const slow = [
      ...Array.from({ length: 6 }, () => fetch(url, init)),
      ...Array.from({ length: 6 }, () =>
        fetch(`${url}?length=${8 * MIB}`, { signal: ends.signal }).then((got) => got.arrayBuffer()),
      ),
    ].map((one) => one.catch(() => undefined));
    await sleep(300);
    const bytes = randomBytes(3 * MIB);
    expect(await api.put('/disks/d1/data', bytes)).toMatchObject({ status: 204 });
    expect((await api.get(`/disks/d1/data?length=${3 * MIB}`)).bytes.equals(bytes)).toBe(true);
    expect(api.services.disks.get('slow').users()).toHaveLength(6);
    ends.abort();
    await Promise.all(slow);
    // what was sent before is read first: then they are seen to be gone
    await api.ask('/disks/slow/limits', put({}));
    await untilIdle(api, 'slow');
  });

  it('is felt at once by requests in progress when it is raised', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.ask('/disks/d1/limits', put({ maxBytesPerSecond: 4 * KIB }));
    const bytes = randomBytes(5 * MIB);
    const requests = [
      api.put('/disks/d1/data', bytes),
      api.put(`/disks/d1/data?offset=${8 * MIB}`, bytes.subarray(0, MIB)),
      api.get(`/disks/d1/data?offset=${16 * MIB}&length=100000`),
    ];
    const first = await Promise.race([...requests, sleep(300).then(() => 'none')]);
    expect(first).toBe('none');
    await api.ask('/disks/d1/limits', put({}));
    const answers = await Promise.all(requests);
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 200]);
    const found = await api.get(`/disks/d1/data?length=${5 * MIB}`);
    expect(found.bytes.equals(bytes)).toBe(true);
  });

  it('lets go of a request whose client is gone, and of one that is ended by force', async () => {
    const api = await ApiWorld.start({ limits: { shutdownGraceMs: 10 } });
    await api.disk('d1');
    await api.ask('/disks/d1/limits', put({ maxBytesPerSecond: 4 * KIB }));
    const disk = api.services.disks.get('d1');
    const gone = new RawHttp(api.port);
    gone.head('PUT /v1/disks/d1/data', { 'content-length': 5 * MIB });
    gone.send('x'.repeat(10 * KIB));
    while (disk.users().length < 1) await sleep(5);
    await sleep(50);
    gone.socket.destroy();
    await untilIdle(api, 'd1');
    const ended = api.put('/disks/d1/data', randomBytes(5 * MIB));
    while (disk.users().length < 1) await sleep(5);
    await sleep(50);
    const forced = await api.ask('/disks/d1?force=true', { method: 'DELETE' });
    expect(forced.status).toBe(204);
    const { body } = await ended;
    expect(body).toMatchObject({ status: 409, code: 'DISK_IN_USE' });
    // what the rate let through by then
    expect(body.writtenBytes).toBeLessThan(5 * MIB);
    expect(disk.rate.waiting).toBe(0);
  });
});
