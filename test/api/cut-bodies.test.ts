import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { ApiWorld } from '../support/api-world.ts';
import { failWrites } from '../support/hold.ts';
import { RawHttp } from '../support/raw-http.ts';

const MIB = 1024 * 1024;

async function dataOf(api: ApiWorld, offset: number, length: number): Promise<Buffer> {
  const answer = await api.get(`/disks/d1/data?offset=${offset}&length=${length}`);
  expect(answer.status).toBe(200);
  return answer.bytes;
}

describe('a body that is cut off', () => {
  it.each([
    ['small', 3 * MIB, MIB, 0],
    ['large', 9 * MIB, 5 * MIB + 123, 5 * MIB + 123],
  ])('while %s and half-closed gets BODY_TRUNCATED', async (_name, length, sent, written) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(sent);
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data?offset=100', { 'content-length': length });
    raw.send(bytes);
    raw.socket.end();
    const answer = await raw.answer();
    expect(answer.body).toMatchObject({
      status: 400,
      code: 'BODY_TRUNCATED',
      writtenBytes: written,
      retryable: true,
    });
    await raw.closed();
    const found = await dataOf(api, 100, written + 10);
    expect(found.equals(Buffer.concat([bytes.subarray(0, written), Buffer.alloc(10)]))).toBe(true);
  });

  it('without length in the middle of a chunk gets BODY_TRUNCATED', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'transfer-encoding': 'chunked' });
    raw.send('a\r\n0123456789\r\n', 'a\r\n01234');
    raw.socket.end();
    const answer = await raw.answer();
    expect(answer.body).toMatchObject({ code: 'BODY_TRUNCATED', writtenBytes: 15 });
    expect((await dataOf(api, 0, 16)).toString()).toBe('012345678901234\0');
  });

  it('with the connection is applied as far as it came, and the disk is free again', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(2 * MIB);
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 50 * MIB });
    raw.send(bytes);
    const disk = api.services.disks.get('d1');
    while (disk.usedBytes < 2 * MIB) await new Promise((resolve) => setImmediate(resolve));
    expect(disk.users()).toMatchObject([{ kind: 'http-write' }]);
    raw.socket.resetAndDestroy();
    while (disk.users().length > 0) await new Promise((resolve) => setImmediate(resolve));
    expect((await dataOf(api, 0, bytes.length)).equals(bytes)).toBe(true);
  });

  it.each([
    ['small', 5],
    ['large', 5 * MIB],
  ])('is none if it is whole (%s) and something else follows', async (_name, length) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(length);
    const raw = new RawHttp(api.port);
    const host = 'host: 127.0.0.1\r\n';
    const head = `PUT /v1/disks/d1/data HTTP/1.1\r\n${host}content-length: ${length}\r\n\r\n`;
    raw.send(Buffer.concat([Buffer.from(head), bytes, Buffer.from('garbage\r\n\r\n')]));
    expect(await raw.answer()).toMatchObject({ status: 204 });
    await raw.closed();
    expect((await dataOf(api, 0, length)).equals(bytes)).toBe(true);
  });

  it('by silence is refused after the idle time', async () => {
    const api = await ApiWorld.start({ limits: { idleTimeoutMs: 50 } });
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 10 });
    raw.send('12345');
    expect((await raw.answer()).body).toMatchObject({ code: 'BODY_TRUNCATED', writtenBytes: 0 });
  });
});

describe('a client that waits for 100 Continue', () => {
  const expectation = { expect: '100-continue' };

  it('is invited and then answered', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { ...expectation, 'content-length': 5 });
    expect(await raw.answer()).toMatchObject({ status: 100 });
    raw.send('hello');
    expect(await raw.answer()).toMatchObject({ status: 204 });
    expect((await dataOf(api, 0, 5)).toString()).toBe('hello');
  });

  it('is refused before it sends anything if the range is beyond the end', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { ...expectation, 'content-length': 100 * MIB });
    const answer = await raw.answer();
    const body = { code: 'RANGE_NOT_SATISFIABLE', writtenBytes: 0 };
    expect(answer).toMatchObject({ status: 416, body });
    expect(answer.headers.get('connection')).toBe('close');
  });

  it('is refused before it sends anything if the pool has no room whatever the bytes', async () => {
    const api = await ApiWorld.start();
    await api.post('/pools', { name: 'tiny', files: [{ path: 'tiny', sizeBytes: 8 * MIB }] });
    await api.disk('d1', { pool: 'tiny', detectZeroes: false });
    await api.put('/disks/d1/data', randomBytes(4 * MIB));
    const freeBytes = Number((await api.get('/pools/tiny')).body.freeBytes);
    for (const [length, status] of [
      [4 * MIB + freeBytes, 100],
      [4 * MIB + freeBytes + 1, 507],
    ]) {
      const raw = new RawHttp(api.port);
      raw.head('PUT /v1/disks/d1/data', { ...expectation, 'content-length': length! });
      expect(await raw.answer()).toMatchObject({ status });
    }
  });

  it('is refused before it sends JSON that is too long', async () => {
    const api = await ApiWorld.start();
    const raw = new RawHttp(api.port);
    const type = { 'content-type': 'application/json' };
    raw.head('POST /v1/disks', { ...expectation, ...type, 'content-length': 2 * MIB });
    expect(await raw.answer()).toMatchObject({ status: 413, body: { code: 'BODY_TOO_LARGE' } });
  });
});

describe('an error in the middle of a body', () => {
  it('is sent at once, and the rest is read and dropped', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const error = new StorageError('HOST_FULL', 'ENOSPC below the pool');
    failWrites(api.services.disks.get('d1'), error, 2 * MIB);
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 40 * MIB });
    raw.send(randomBytes(4 * MIB));
    const answer = await raw.answer();
    expect(answer.body).toMatchObject({ code: 'HOST_FULL', writtenBytes: 2 * MIB });
    raw.send(randomBytes(36 * MIB));
    raw.head('GET /v1/disks/d1');
    expect(await raw.answer()).toMatchObject({ status: 200, body: { name: 'd1' } });
  });

  it('ends the connection when the rest is longer than the bound', async () => {
    const api = await ApiWorld.start({ limits: { drainBytes: MIB } });
    await api.disk('d1');
    failWrites(api.services.disks.get('d1'), new StorageError('HOST_FULL', 'ENOSPC'));
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 40 * MIB });
    raw.send(randomBytes(30 * MIB));
    expect(await raw.answer()).toMatchObject({ status: 507, body: { writtenBytes: 0 } });
    await raw.closed();
  });

  it('ends the connection when the rest does not come', async () => {
    const api = await ApiWorld.start({ limits: { drainIdleMs: 20 } });
    await api.disk('d1');
    failWrites(api.services.disks.get('d1'), new StorageError('HOST_FULL', 'ENOSPC'));
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 40 * MIB });
    raw.send(randomBytes(3 * MIB));
    expect(await raw.answer()).toMatchObject({ status: 507 });
    await raw.closed();
  });
});
