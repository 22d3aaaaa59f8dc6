import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { StorageError } from '../../src/base/errors.ts';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

async function worldWith(bytes: Buffer, offset: number): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.disk('d1');
  expect(await api.put(`/disks/d1/data?offset=${offset}`, bytes)).toMatchObject({ status: 204 });
  return api;
}

describe('reading a disk', () => {
  it('gives every byte range, holes as zeros', async () => {
    const bytes = randomBytes(3 * MIB);
    const api = await worldWith(bytes, 5 * MIB);
    const whole = Buffer.concat([Buffer.alloc(5 * MIB), bytes, Buffer.alloc(SIZE - 8 * MIB)]);
    const all = await api.get('/disks/d1/data');
    expect(all.status).toBe(200);
    expect(all.headers.get('content-type')).toBe('application/octet-stream');
    expect(all.bytes.equals(whole)).toBe(true);
    for (const [offset, length] of [
      [0, 1],
      [5 * MIB - 1, 2],
      [5 * MIB + 511, 3 * MIB],
      [6 * MIB + 7, 2 * MIB + 3],
      [SIZE - 1, 1],
    ] as const) {
      const part = await api.get(`/disks/d1/data?offset=${offset}&length=${length}`);
      expect(part.status).toBe(200);
      expect(part.bytes.equals(whole.subarray(offset, offset + length))).toBe(true);
      const tail = await api.get(`/disks/d1/data?offset=${SIZE - length}`);
      expect(tail.bytes.length).toBe(length);
    }
  });

  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=100-', 100, SIZE - 100],
    ['bytes=-5', SIZE - 5, 5],
    [`bytes=-${SIZE * 2}`, 0, SIZE],
    [`bytes=${SIZE - 3}-${SIZE * 9}`, SIZE - 3, 3],
    ['Bytes = 7-9 ', 7, 3],
  ])('honours Range: %s', async (range, offset, length) => {
    const api = await worldWith(randomBytes(100), 0);
    const answer = await api.get('/disks/d1/data', { range });
    expect(answer.status).toBe(206);
    expect(answer.bytes.length).toBe(length);
    const last = offset + length - 1;
    expect(answer.headers.get('content-range')).toBe(`bytes ${offset}-${last}/${SIZE}`);
    expect(answer.headers.get('accept-ranges')).toBe('bytes');
  });

  it.each([
    ['bytes=5-4', 400, 'RANGE_INVALID'],
    ['bytes=a-b', 400, 'RANGE_INVALID'],
    ['bytes=-', 400, 'RANGE_INVALID'],
    ['bytes', 400, 'RANGE_INVALID'],
    ['bytes=-0', 416, 'RANGE_NOT_SATISFIABLE'],
    [`bytes=${SIZE}-`, 416, 'RANGE_NOT_SATISFIABLE'],
    ['bytes=0-1,5-6', 416, 'RANGE_NOT_SATISFIABLE'],
  ])('refuses Range: %s', async (range, status, code) => {
    const api = await worldWith(Buffer.from('x'), 0);
    await api.refused('/disks/d1/data', { headers: { range } }, status, code);
    const answer = await api.get('/disks/d1/data', { range });
    expect(answer.headers.get('content-range')).toBe(status === 416 ? `bytes */${SIZE}` : null);
  });

  it('ignores other units, and refuses Range beside offset or length', async () => {
    const api = await worldWith(Buffer.from('x'), 0);
    const headers = { range: 'lines=1-2' };
    const answer = await api.ask('/disks/d1/data', { method: 'HEAD', headers });
    expect(answer.status).toBe(200);
    const both = { headers: { range: 'bytes=0-1' } };
    await api.refused('/disks/d1/data?offset=0', both, 400, 'RANGE_INVALID');
    await api.refused('/disks/d1/data?length=9', both, 400, 'RANGE_INVALID');
  });

  it.each([
    [`offset=${SIZE}`, 416, 'RANGE_NOT_SATISFIABLE'],
    [`offset=${SIZE - 1}&length=2`, 416, 'RANGE_NOT_SATISFIABLE'],
    [`offset=${2 ** 53 - 1}&length=${2 ** 53 - 1}`, 416, 'RANGE_NOT_SATISFIABLE'],
    [`offset=${2 ** 53}`, 400, 'VALIDATION_FAILED'],
    ['offset=-1', 400, 'VALIDATION_FAILED'],
    ['offset=1e3', 400, 'VALIDATION_FAILED'],
    ['offset=', 400, 'VALIDATION_FAILED'],
    ['offset=0x10', 400, 'VALIDATION_FAILED'],
    ['offset=1&offset=2', 400, 'VALIDATION_FAILED'],
    ['length=0', 400, 'VALIDATION_FAILED'],
    ['lenght=5', 400, 'VALIDATION_FAILED'],
  ])('refuses ?%s', async (query, status, code) => {
    const api = await worldWith(Buffer.from('x'), 0);
    await api.refused(`/disks/d1/data?${query}`, {}, status, code);
  });

  it('tells the length by HEAD', async () => {
    const api = await worldWith(Buffer.from('x'), 0);
    const whole = await api.ask('/disks/d1/data', { method: 'HEAD' });
    expect(whole.headers.get('content-length')).toBe(String(SIZE));
    const range = { range: 'bytes=10-19' };
    const part = await api.ask('/disks/d1/data', { method: 'HEAD', headers: range });
    expect(part.status).toBe(206);
    expect(part.headers.get('content-length')).toBe('10');
  });

  it('tells an unreadable first part by a problem, a later one by a cut answer', async () => {
    const api = await worldWith(randomBytes(100), 0);
    const disk = api.services.disks.get('d1');
    const read = disk.read.bind(disk);
    Object.assign(disk, {
      read: async (offset: number, into: Uint8Array) => {
        if (offset >= 4 * MIB) throw new StorageError('DATA_UNREADABLE', 'EIO', { offset });
        await read(offset, into);
      },
    });
    const path = `/disks/d1/data?offset=${5 * MIB}&length=10`;
    await api.refused(path, {}, 500, 'DATA_UNREADABLE');
    const raw = new RawHttp(api.port);
    raw.head('GET /v1/disks/d1/data');
    await raw.closed();
    expect(raw.rest).toContain(`content-length: ${SIZE}`);
    expect(raw.rest.length).toBeGreaterThan(4 * MIB);
    expect(raw.rest.length).toBeLessThan(5 * MIB);
    expect(api.logs.join('')).toContain('DATA_UNREADABLE');
  });

  it('lets go of a client that takes nothing, after the idle time', async () => {
    const api = await ApiWorld.start({ limits: { idleTimeoutMs: 50 } });
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.socket.pause();
    raw.head('GET /v1/disks/d1/data');
    while (!api.logs.join('').includes('"status":499')) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
});

describe('reading a copy', () => {
  it('shows both views, and its layout by default', async () => {
    const bytes = randomBytes(2 * MIB);
    const api = await worldWith(bytes, 8 * MIB);
    await api.post('/disks/d1/copies', { name: 'packed' });
    await api.post('/disks/d1/copies', { name: 'wide', layout: 'full' });
    await api.put(`/disks/d1/data?offset=${8 * MIB}`, randomBytes(MIB));
    const packed = await api.get('/copies/packed/data');
    expect(packed.bytes.equals(bytes)).toBe(true);
    const wide = await api.get(`/copies/wide/data?offset=${8 * MIB}&length=${2 * MIB}`);
    expect(wide.bytes.equals(bytes)).toBe(true);
    const other = await api.ask('/copies/wide/data?view=compact', { method: 'HEAD' });
    expect(other.headers.get('content-length')).toBe(String(2 * MIB));
    const full = await api.ask('/copies/packed/data?view=full', { method: 'HEAD' });
    expect(full.headers.get('content-length')).toBe(String(SIZE));
    await api.refused(`/copies/packed/data?offset=${2 * MIB}`, {}, 416, 'RANGE_NOT_SATISFIABLE');
  });

  it('of an empty disk works everywhere', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const copy = await api.copyOf('d1', 'empty');
    expect(copy).toMatchObject({ usedBlocks: 0, capacityBytes: 0 });
    expect(await api.get('/copies/empty/data')).toMatchObject({ status: 200 });
    expect((await api.get('/copies/empty/data')).bytes.length).toBe(0);
    expect((await api.get('/copies/empty/correspondence')).body.items).toEqual([]);
    expect((await api.get('/copies/empty/allocation')).body.items).toEqual([]);
    expect((await api.get('/copies/empty/image')).bytes.length).toBe(copy.imageBytes);
    const range = { headers: { range: 'bytes=0-' } };
    await api.refused('/copies/empty/data', range, 416, 'RANGE_NOT_SATISFIABLE');
  });
});

describe('the image of a copy', () => {
  it('has its id as strong ETag, and resumes by Range and If-Range', async () => {
    const api = await worldWith(randomBytes(MIB), 0);
    const { imageId, imageBytes } = await api.copyOf('d1', 'monday');
    const whole = await api.get('/copies/monday/image');
    expect(whole.headers.get('etag')).toBe(`"${imageId}"`);
    expect(whole.headers.get('content-length')).toBe(String(imageBytes));
    expect(whole.headers.get('content-disposition')).toContain('monday.spindle');
    const half = Math.floor(imageBytes / 2);
    const range = `bytes=${half}-`;
    const rest = await api.get('/copies/monday/image', { range, 'if-range': `"${imageId}"` });
    expect(rest.status).toBe(206);
    expect(rest.bytes.equals(whole.bytes.subarray(half))).toBe(true);
    const other = await api.get('/copies/monday/image', { range, 'if-range': '"other"' });
    expect(other.status).toBe(200);
    expect(other.bytes.equals(whole.bytes)).toBe(true);
    const known = await api.get('/copies/monday/image', { 'if-none-match': `W/"x", "${imageId}"` });
    expect(known).toMatchObject({ status: 304 });
    const head = await api.ask('/copies/monday/image', { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe(String(imageBytes));
  });

  it('is the same after a rename and without its disk', async () => {
    const api = await worldWith(randomBytes(MIB), 0);
    await api.copyOf('d1', 'monday');
    const first = await api.get('/copies/monday/image');
    await api.ask('/copies/monday', { method: 'PATCH', json: { name: 'tuesday' } });
    await api.ask('/disks/d1', { method: 'DELETE' });
    const second = await api.get('/copies/tuesday/image');
    expect(second.bytes.equals(first.bytes)).toBe(true);
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'));
  });

  it('being downloaded keeps its copy, unless by force', async () => {
    const api = await worldWith(randomBytes(40 * MIB), 0);
    await api.copyOf('d1', 'monday');
    const raw = new RawHttp(api.port);
    raw.socket.pause();
    raw.head('GET /v1/copies/monday/image');
    const copy = api.services.copies.get('monday');
    while (copy.users().length === 0) await new Promise((resolve) => setImmediate(resolve));
    const { users } = (await api.get('/copies/monday')).body;
    expect(users).toMatchObject([{ kind: 'http-read' }]);
    await api.refused('/copies/monday', { method: 'DELETE' }, 409, 'COPY_IN_USE');
    const forced = await api.ask('/copies/monday?force=true', { method: 'DELETE' });
    expect(forced.status).toBe(204);
    raw.socket.resume();
    await raw.closed();
    expect(raw.rest.length).toBeLessThan(40 * MIB);
    await api.refused('/copies/monday/image', {}, 404, 'NOT_FOUND');
  });
});
