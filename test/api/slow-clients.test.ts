import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The test is over before its clients are. */
const quickEnd = { shutdownGraceMs: 10 };

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** PUTs of 4 MiB whose bodies never go on, and readers of a whole disk that take nothing. */
async function stall(
  api: ApiWorld,
  count: { readonly puts: number; readonly gets: number },
): Promise<{ puts: RawHttp[]; gets: RawHttp[] }> {
  await api.disk('slow');
  const disk = api.services.disks.get('slow');
  const puts = Array.from({ length: count.puts }, () => {
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/slow/data', { 'content-length': 4 * MIB });
    raw.send('x');
    return raw;
  });
  while (disk.users().length < count.puts) await sleep(5);
  const gets = Array.from({ length: count.gets }, () => {
    const raw = new RawHttp(api.port);
    raw.socket.pause();
    raw.head('GET /v1/disks/slow/data');
    return raw;
  });
  await sleep(100);
  return { puts, gets };
}

describe('clients that neither send nor take', () => {
  it('do not keep others from small data of another disk', async () => {
    const api = await ApiWorld.start({ limits: quickEnd });
    await api.disk('d1');
    await stall(api, { puts: 40, gets: 40 });
    const begin = performance.now();
    const bytes = randomBytes(100_000);
    expect(await api.put('/disks/d1/data', bytes)).toMatchObject({ status: 204 });
    const found = await api.get('/disks/d1/data?length=100000');
    expect(found.bytes.equals(bytes)).toBe(true);
    expect(performance.now() - begin).toBeLessThan(10_000);
  });

  it('are ended when others wait: a PUT as if cut, a GET with its connection', async () => {
    const api = await ApiWorld.start({ limits: { ...quickEnd, memoryWaitMs: 20_000 } });
    await api.disk('d1');
    const { puts, gets } = await stall(api, { puts: 4, gets: 12 });
    const bytes = randomBytes(9 * MIB);
    const answers = await Promise.all([0, 1, 2, 3].map(() => api.put('/disks/d1/data', bytes)));
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204, 204]);
    expect((await puts[0]!.answer()).body).toMatchObject({
      status: 400,
      code: 'BODY_TRUNCATED',
      writtenBytes: 0,
      retryable: true,
    });
    gets[0]!.socket.resume();
    await gets[0]!.closed();
  });

  it('let the others wait for a bounded time only', async () => {
    const api = await ApiWorld.start({
      limits: { ...quickEnd, bodyMemoryBytes: 4 * MIB, memoryWaitMs: 50 },
    });
    await api.disk('d1');
    await stall(api, { puts: 1, gets: 0 });
    const put = { method: 'PUT', body: randomBytes(3 * MIB) };
    await api.refused('/disks/d1/data', put, 429, 'TOO_MANY_REQUESTS');
    const again = await api.put('/disks/d1/data', put.body);
    expect(again.headers.get('retry-after')).toBe('1');
  });

  it('do not gain time with single bytes', async () => {
    const api = await ApiWorld.start({ limits: { ...quickEnd, idleTimeoutMs: 200 } });
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 1000 });
    const drip = setInterval(() => {
      raw.send('x');
    }, 20);
    try {
      expect((await raw.answer()).body).toMatchObject({ code: 'BODY_TRUNCATED' });
    } finally {
      clearInterval(drip);
    }
  });
});

describe('a client that is slow but goes on', () => {
  it('is not ended although others wait', async () => {
    const api = await ApiWorld.start({
      limits: { ...quickEnd, bodyMemoryBytes: 4 * MIB, memoryWaitMs: 20_000 },
    });
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 3 * MIB });
    const first = raw.answer();
    const other = (async () => {
      await sleep(50);
      return api.put('/disks/d1/data', randomBytes(3 * MIB));
    })();
    for (let sent = 0; sent < 3 * MIB; sent += 128 * KIB) {
      raw.send(Buffer.alloc(128 * KIB));
      await sleep(150);
    }
    expect(await first).toMatchObject({ status: 204 });
    expect(await other).toMatchObject({ status: 204 });
  });
});
