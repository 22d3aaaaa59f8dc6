import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { ApiWorld } from '../support/api-world.ts';
import { failFlushes, holdWrites } from '../support/hold.ts';
import { RawHttp } from '../support/raw-http.ts';

const MIB = 1024 * 1024;

/** A body without Content-Length. */
function chunked(bytes: Buffer, chunkBytes = 70_001): ReadableStream {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) {
        controller.close();
        return;
      }
      controller.enqueue(bytes.subarray(at, at + chunkBytes));
      at += chunkBytes;
    },
  });
}

function digestOf(bytes: Buffer): string {
  return `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`;
}

async function dataOf(api: ApiWorld, offset: number, length: number): Promise<Buffer> {
  const answer = await api.get(`/disks/d1/data?offset=${offset}&length=${length}`);
  expect(answer.status).toBe(200);
  return answer.bytes;
}

describe('writing', () => {
  it.each([
    ['small', 100_000, 0],
    ['at an odd place', 3 * MIB + 77, 12_345],
    ['of exactly 4 MiB', 4 * MIB, 512],
    ['larger than 4 MiB', 9 * MIB + 1, 1_000_003],
  ])('a body %s is read back', async (_name, length, offset) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(length);
    expect(await api.put(`/disks/d1/data?offset=${offset}`, bytes)).toMatchObject({ status: 204 });
    expect((await dataOf(api, offset, length)).equals(bytes)).toBe(true);
    expect((await dataOf(api, 0, offset + 1)).subarray(0, offset).every((byte) => byte === 0)).toBe(
      true,
    );
  });

  it.each([1000, 5 * MIB + 3])('a body of %i bytes without length is read back', async (length) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(length);
    const put = { method: 'PUT', body: chunked(bytes) };
    expect(await api.ask('/disks/d1/data?offset=777', put)).toMatchObject({ status: 204 });
    expect((await dataOf(api, 777, length)).equals(bytes)).toBe(true);
  });

  it('takes any content type, also none and one that is no type', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    for (const type of ['application/json', 'text/plain; charset=utf-8', 'foo', 'a/b; c=']) {
      const body = Buffer.from(`{${type}`);
      const put = await api.put('/disks/d1/data', body, { 'content-type': type });
      expect(put.status).toBe(204);
      expect(await dataOf(api, 0, body.length)).toEqual(body);
    }
  });

  it('an empty body writes nothing', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    expect(await api.put('/disks/d1/data?offset=5', Buffer.alloc(0))).toMatchObject({
      status: 204,
    });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(0);
  });

  it('zero blocks are not allocated', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put('/disks/d1/data', Buffer.alloc(6 * MIB));
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(0);
  });

  it('is answered after a flush, or before one if volatile', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    failFlushes(api.services.disks.get('d1'), new StorageError('POOL_POISONED', 'EIO'));
    const volatile = await api.put('/disks/d1/data?durability=volatile', Buffer.from('x'));
    expect(volatile.status).toBe(204);
    const put = { method: 'PUT', body: Buffer.from('x') };
    const problem = await api.refused('/disks/d1/data', put, 503, 'POOL_POISONED');
    expect(problem).not.toHaveProperty('writtenBytes');
  });
});

describe('a body that cannot be written', () => {
  it.each([
    ['begins beyond the end', 64 * MIB + 1, 10],
    ['ends beyond the end', 64 * MIB - 5, 10],
    ['is large and ends beyond the end', 60 * MIB, 5 * MIB],
  ])('that %s changes nothing', async (_name, offset, length) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const put = { method: 'PUT', body: randomBytes(length) };
    const path = `/disks/d1/data?offset=${offset}`;
    const problem = await api.refused(path, put, 416, 'RANGE_NOT_SATISFIABLE');
    expect(problem).toMatchObject({ capacityBytes: 64 * MIB });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(0);
  });

  it('that has no length is applied until the end of the disk', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(6 * MIB);
    const put = { method: 'PUT', body: chunked(bytes) };
    const path = `/disks/d1/data?offset=${60 * MIB}`;
    const problem = await api.refused(path, put, 416, 'RANGE_NOT_SATISFIABLE');
    const { writtenBytes } = problem;
    expect(writtenBytes).toBeGreaterThan(0);
    expect(writtenBytes).toBeLessThanOrEqual(4 * MIB);
    const prefix = await dataOf(api, 60 * MIB, writtenBytes);
    expect(prefix.equals(bytes.subarray(0, writtenBytes))).toBe(true);
  });

  it('on a full pool: a small one changes nothing, a large one tells how far it came', async () => {
    const api = await ApiWorld.start();
    const files = [{ path: 'tiny', sizeBytes: 8 * MIB }];
    expect(await api.post('/pools', { name: 'tiny', files })).toMatchObject({ status: 201 });
    await api.disk('d1', { pool: 'tiny' });
    const bytes = randomBytes(20 * MIB);
    const put = { method: 'PUT', body: bytes };
    const problem = await api.refused('/disks/d1/data', put, 507, 'POOL_FULL');
    const { writtenBytes } = problem;
    expect(problem).toMatchObject({ pool: 'tiny', retryable: true });
    expect(writtenBytes).toBeGreaterThan(0);
    expect(writtenBytes % MIB).toBe(0);
    expect((await dataOf(api, 0, writtenBytes)).equals(bytes.subarray(0, writtenBytes))).toBe(true);
    const rest = await dataOf(api, writtenBytes, MIB);
    expect(rest.every((byte) => byte === 0)).toBe(true);

    const small = { method: 'PUT', body: randomBytes(3 * MIB) };
    const path = `/disks/d1/data?offset=${30 * MIB}`;
    expect(await api.refused(path, small, 507, 'POOL_FULL')).toMatchObject({ writtenBytes: 0 });
    expect((await dataOf(api, 30 * MIB, 100)).every((byte) => byte === 0)).toBe(true);
    const overwrite = await api.put('/disks/d1/data?offset=0', randomBytes(MIB));
    expect(overwrite.status).toBe(204);
  });

  it('in a content coding or with Content-Range is refused', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const put = (headers: Record<string, string>) => ({ method: 'PUT', body: 'x', headers });
    await api.refused(
      '/disks/d1/data',
      put({ 'content-encoding': 'gzip' }),
      415,
      'MEDIA_TYPE_UNSUPPORTED',
    );
    const image = { method: 'POST', body: 'x', headers: { 'content-encoding': 'br' } };
    const path = '/restores?method=remap&disk=d2';
    await api.refused(path, image, 415, 'MEDIA_TYPE_UNSUPPORTED');
    for (const line of ['PUT /v1/disks/d1/data', `POST /v1${path}`]) {
      const raw = new RawHttp(api.port);
      raw.head(line, { 'transfer-encoding': 'gzip, chunked' });
      raw.send('1\r\nx\r\n0\r\n\r\n');
      const { body } = await raw.answer();
      expect(body).toMatchObject({ status: 415, code: 'MEDIA_TYPE_UNSUPPORTED' });
    }
    const range = put({ 'content-range': 'bytes 0-0/1' });
    await api.refused('/disks/d1/data', range, 400, 'RANGE_INVALID');
  });
});

describe('a digest', () => {
  it('that fits is accepted, in either field', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    for (const length of [1000, 5 * MIB]) {
      const bytes = randomBytes(length);
      const digest = `unixsum=:AAA=:, ${digestOf(bytes)}`;
      for (const field of ['content-digest', 'repr-digest']) {
        const put = await api.put('/disks/d1/data', bytes, { [field]: digest });
        expect(put.status).toBe(204);
      }
    }
  });

  it('that does not fit refuses a small body whole', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const headers = { 'content-digest': digestOf(Buffer.from('other')) };
    const put = { method: 'PUT', body: randomBytes(4 * MIB), headers };
    const problem = await api.refused('/disks/d1/data', put, 400, 'DIGEST_MISMATCH');
    expect(problem).toMatchObject({ writtenBytes: 0, field: 'content-digest' });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(0);
  });

  it('that does not fit tells of a large body that it was applied', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const headers = { 'repr-digest': digestOf(Buffer.from('other')) };
    const bytes = randomBytes(4 * MIB + 1);
    const put = { method: 'PUT', body: bytes, headers };
    const problem = await api.refused('/disks/d1/data', put, 400, 'DIGEST_MISMATCH');
    expect(problem).toMatchObject({ writtenBytes: bytes.length });
  });

  it('that is not written as its RFC says is refused', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    for (const digest of ['sha-256=abc', 'sha-256=::', 'sha-256=:AAAA:', 'sha-512=:A:']) {
      const put = { method: 'PUT', body: 'x', headers: { 'content-digest': digest } };
      const problem = await api.refused('/disks/d1/data', put, 400, 'VALIDATION_FAILED');
      expect(problem).toMatchObject({ field: 'content-digest', retryable: false });
    }
  });

  it('of algorithms that are all unknown is refused', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    for (const field of ['content-digest', 'repr-digest']) {
      const headers = { [field]: 'unixsum=:AAA=:, md5=:AAAA:' };
      const put = { method: 'PUT', body: 'x', headers };
      const problem = await api.refused('/disks/d1/data', put, 400, 'VALIDATION_FAILED');
      expect(problem).toMatchObject({ field });
    }
  });
});

describe('a disk in use', () => {
  it('lists a PUT, refuses a write-back, and with force ends the PUT where it is', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const before = randomBytes(MIB);
    await api.put('/disks/d1/data', before);
    await api.copyOf('d1', 'monday');
    const hold = holdWrites(api.services.disks.get('d1'), 2 * MIB);
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 40 * MIB });
    raw.send(randomBytes(4 * MIB));
    await hold.reached;
    const { users } = (await api.get('/disks/d1')).body;
    expect(users).toMatchObject([{ kind: 'http-write' }]);

    const back = { method: 'write-back', disk: 'd1' };
    const post = { method: 'POST', json: back };
    const refusal = await api.refused('/copies/monday/restores', post, 409, 'DISK_IN_USE');
    expect(refusal).toMatchObject({ users });
    const remove = { method: 'DELETE' };
    const dry = await api.refused('/disks/d1?dryRun=true', remove, 409, 'DISK_IN_USE');
    expect(dry).toMatchObject({ users });
    const forced = await api.ask('/disks/d1?dryRun=true&force=true', remove);
    expect(forced.body.affects).toMatchObject([{ kind: 'disk' }, { kind: 'http-write' }]);

    const restore = api.post('/copies/monday/restores', { ...back, force: true });
    await new Promise((resolve) => setTimeout(resolve, 20));
    hold.release();
    expect(await restore).toMatchObject({ status: 202 });
    expect((await raw.answer()).body).toMatchObject({ status: 409, code: 'DISK_FENCED' });
    const { id } = (await restore).body;
    const job = await api.get(`/jobs/${id}`, { prefer: 'wait=10' });
    expect(job.body).toMatchObject({ state: 'succeeded' });
    const after = await dataOf(api, 0, 4 * MIB);
    expect(after.equals(Buffer.concat([before, Buffer.alloc(3 * MIB)]))).toBe(true);
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(MIB);
  });

  it('that is fenced answers every data request with the job', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put('/disks/d1/data', randomBytes(MIB));
    await api.post('/targets', { name: 't', kind: 'directory', path: 'backups' });
    const wait = { prefer: 'wait=10' };
    await api.post('/backups', { name: 'b1', disk: 'd1', target: 't' }, wait);
    const slow = { method: 'write-back', disk: 'd1', maxBytesPerSecond: 1 };
    const { id } = (await api.post('/backups/b1/restores', slow)).body;
    while ((await api.get('/disks/d1')).body.state === 'ready');
    for (const asked of [{ method: 'GET' }, { method: 'PUT', body: 'x' }, { method: 'DELETE' }]) {
      const path = '/disks/d1/data?offset=0';
      const range = asked.method === 'DELETE' ? '&length=10' : '';
      const problem = await api.refused(path + range, asked, 409, 'DISK_FENCED');
      expect(problem.job).toBe(id);
      expect(problem.writtenBytes).toBe(asked.method === 'PUT' ? 0 : undefined);
    }
    expect(await api.ask('/disks/d1/data', { method: 'HEAD' })).toMatchObject({ status: 409 });
    const change = { method: 'PATCH', json: {} };
    await api.refused('/disks/d1?dryRun=true', change, 409, 'DISK_FENCED');
    const since = expect.stringMatching(/^\d{4}-.*Z$/) as string;
    const users = [{ kind: 'job', id, since }];
    const remove = { method: 'DELETE' };
    for (const path of ['/disks/d1', '/disks/d1?dryRun=true']) {
      const problem = await api.refused(path, remove, 409, 'DISK_IN_USE');
      expect(problem.users).toEqual(users);
    }
    const dry = await api.ask('/disks/d1?dryRun=true&force=true', remove);
    expect(dry.body.affects).toMatchObject([
      { kind: 'disk', name: 'd1' },
      { kind: 'job', id },
    ]);
    const shown = (await api.get('/disks/d1')).body;
    expect(shown).toMatchObject({ state: 'fenced', job: id, users });
    await api.post(`/jobs/${id}/cancel`);
    await api.get(`/jobs/${id}`, { prefer: 'wait=10' });
    expect((await api.get('/disks/d1')).body).toMatchObject({ state: 'ready' });
  });
});

describe('discarding', () => {
  it('needs offset and length, and frees whole blocks', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(MIB);
    await api.put('/disks/d1/data', bytes);
    for (const query of ['', '?offset=0', '?length=5']) {
      const path = `/disks/d1/data${query}`;
      await api.refused(path, { method: 'DELETE' }, 400, 'RANGE_REQUIRED');
    }
    const path = '/disks/d1/data?offset=65536&length=131072';
    const dry = await api.ask(`${path}&dryRun=true`, { method: 'DELETE' });
    expect(dry).toMatchObject({ status: 200, body: { wouldFreeBytes: 131072 } });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(MIB);
    expect(await api.ask(path, { method: 'DELETE' })).toMatchObject({ status: 204 });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(MIB - 131072);
    bytes.fill(0, 65536, 65536 + 131072);
    expect((await dataOf(api, 0, MIB)).equals(bytes)).toBe(true);
    const beyond = `/disks/d1/data?offset=${64 * MIB}&length=1`;
    await api.refused(beyond, { method: 'DELETE' }, 416, 'RANGE_NOT_SATISFIABLE');
  });
});
