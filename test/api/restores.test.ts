import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { deferred } from '../../src/base/mutex.ts';
import { ApiWorld } from '../support/api-world.ts';
import { goldenImage } from '../support/golden-images.ts';
import { RawHttp } from '../support/raw-http.ts';

const MIB = 1024 * 1024;

interface World {
  readonly api: ApiWorld;
  readonly bytes: Buffer;
  readonly image: Buffer;
}

/** A disk d1 with some bytes, its copy `monday` and that one's image. */
async function worldWithImage(): Promise<World> {
  const api = await ApiWorld.start();
  await api.disk('d1');
  const bytes = randomBytes(MIB);
  await api.put('/disks/d1/data', bytes);
  await api.copyOf('d1', 'monday');
  const image = (await api.get('/copies/monday/image')).bytes;
  return { api, bytes, image };
}

async function upload(api: ApiWorld, query: string, body: Buffer, headers = {}) {
  return api.ask(`/restores?${query}`, { method: 'POST', body, headers });
}

describe('an uploaded image', () => {
  it('comes back as a new disk, as a copy, or into a disk', async () => {
    const { api, bytes, image } = await worldWithImage();
    const remap = await upload(api, 'method=remap&disk=d2', image);
    expect(remap.status).toBe(201);
    expect((await api.get(`/disks/d2/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
    const copy = await upload(api, 'method=copy&copy=c2', image);
    expect(copy.status).toBe(201);
    expect(copy.headers.get('location')).toBe('/v1/copies/c2');
    expect((await api.get('/copies/c2/data')).bytes.equals(bytes)).toBe(true);
    await api.put('/disks/d1/data', randomBytes(2 * MIB));
    const back = await upload(api, 'method=write-back&disk=d1', image);
    expect(back.status).toBe(200);
    expect(back.body).toMatchObject({ state: 'succeeded' });
    expect((await api.get('/disks/d1')).body.usedBytes).toBe(MIB);
  });

  it.each([
    ['', 'VALIDATION_FAILED'],
    ['method=move', 'VALIDATION_FAILED'],
    ['method=remap', 'VALIDATION_FAILED'],
    ['method=remap&disk=No', 'NAME_INVALID'],
    ['method=remap&disk=d2&copy=c', 'VALIDATION_FAILED'],
    ['method=remap&disk=d2&force=true', 'VALIDATION_FAILED'],
    ['method=remap&disk=d2&safetyCopy=s', 'VALIDATION_FAILED'],
    ['method=copy', 'VALIDATION_FAILED'],
    ['method=copy&copy=c&disk=d', 'VALIDATION_FAILED'],
    ['method=write-back&disk=d1&pool=default', 'VALIDATION_FAILED'],
    ['method=write-back&disk=d1&onDamage=maybe', 'VALIDATION_FAILED'],
    ['job=0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f', 'RANGE_REQUIRED'],
  ])('is refused with ?%s', async (query, code) => {
    const { api, image } = await worldWithImage();
    const answer = await upload(api, query, image);
    expect(answer.body).toMatchObject({ status: 400, code });
    expect((await api.get('/disks')).body.items).toHaveLength(1);
  });

  it('that is none, lacks its base or ends too early is refused for good', async () => {
    const { api, image } = await worldWithImage();
    const foreign = await upload(api, 'method=remap&disk=d2', randomBytes(100_000));
    expect(foreign.body).toMatchObject({ status: 400, code: 'IMAGE_INVALID' });
    const increment = goldenImage('image-v1-incremental');
    const loose = await upload(api, 'method=remap&disk=d2', increment);
    expect(loose.body).toMatchObject({ status: 409, code: 'BASE_MISSING', reason: 'upload' });
    const short = await upload(api, 'method=remap&disk=d2', image.subarray(0, -1));
    expect(short.body).toMatchObject({ status: 400, code: 'IMAGE_TRUNCATED' });
    for (const { body } of [foreign, loose, short]) {
      expect(body).not.toHaveProperty('job');
      expect(body).not.toHaveProperty('receivedBytes');
    }
    // the jobs end after the answers
    await vi.waitFor(async () => {
      expect((await api.get('/disks')).body.items).toHaveLength(1);
    });
  });

  it.each([
    [0, 'half-closed'],
    [50, 'half-closed'],
    [0, 'closed'],
    [50, 'closed'],
  ])('that was cut after %i bytes, %s, waits for the rest at once', async (sent, how) => {
    const { api, bytes, image } = await worldWithImage();
    const { restores } = api.services;
    const begin = restores.beginUpload.bind(restores);
    const [isBegun, isCut] = [deferred<undefined>(), deferred<undefined>()];
    const aborts: string[] = [];
    vi.spyOn(restores, 'beginUpload').mockImplementation(async (...asked) => {
      isBegun.resolve(undefined);
      const session = await begin(...asked);
      await isCut.promise;
      const abort = session.abort.bind(session);
      vi.spyOn(session, 'abort').mockImplementation(async (reason) => {
        await abort(reason);
        aborts.push(`${reason.code} ${session.job.id}`);
      });
      return session;
    });
    const raw = new RawHttp(api.port);
    raw.head('POST /v1/restores?method=remap&disk=d2', { 'content-length': image.length });
    raw.send(image.subarray(0, sent));
    await isBegun.promise;
    if (how === 'closed') raw.socket.destroy();
    else raw.socket.end();
    setTimeout(() => {
      isCut.resolve(undefined);
    }, 50);
    if (how === 'half-closed') {
      const { body } = await raw.answer();
      expect(body).toMatchObject({ status: 400, code: 'BODY_TRUNCATED', receivedBytes: 0 });
    }
    await vi.waitFor(() => {
      expect(aborts).toHaveLength(1);
    });
    const [code, job] = aborts[0]!.split(' ');
    expect(code).toBe('BODY_TRUNCATED');
    const range = { 'content-range': `bytes 0-${image.length - 1}/${image.length}` };
    expect(await upload(api, `job=${job!}`, image, range)).toMatchObject({ status: 201 });
    expect((await api.get(`/disks/d2/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
  });

  it('that was cut goes on where it was', async () => {
    const { api, bytes, image } = await worldWithImage();
    const sent = 600_000;
    const raw = new RawHttp(api.port);
    raw.head('POST /v1/restores?method=remap&disk=d2', { 'content-length': image.length });
    raw.send(image.subarray(0, sent));
    raw.socket.end();
    const cut = await raw.answer();
    expect(cut.body).toMatchObject({ status: 400, code: 'BODY_TRUNCATED', retryable: true });
    // what is whole and durable, which may be less than what came
    const half = cut.body.receivedBytes as number;
    expect(half).toBeLessThanOrEqual(sent);
    const job = cut.body.job as string;
    expect([404, 409]).toContain((await api.get('/disks/d2/data?length=10')).status);
    const rangeFrom = (first: number) => ({
      'content-range': `bytes ${first}-${image.length - 1}/${image.length}`,
    });
    const wrong = await upload(api, `job=${job}`, image.subarray(5), rangeFrom(5));
    expect(wrong.body).toMatchObject({ code: 'RANGE_INVALID', receivedBytes: half });
    const lie = await upload(api, `job=${job}`, image.subarray(half + 1), rangeFrom(half));
    expect(lie.body).toMatchObject({ code: 'RANGE_INVALID' });
    for (const [field, value] of [
      ['method', 'copy'],
      ['disk', 'd3'],
      ['copy', 'c'],
    ] as const) {
      const query = `job=${job}&${field}=${value}`;
      const other = await upload(api, query, image.subarray(half), rangeFrom(half));
      expect(other.body).toMatchObject({ status: 400, code: 'VALIDATION_FAILED', field });
    }
    const rest = await upload(
      api,
      `job=${job}&method=remap`,
      image.subarray(half),
      rangeFrom(half),
    );
    expect(rest).toMatchObject({ status: 201, body: { id: job, state: 'succeeded' } });
    expect((await api.get(`/disks/d2/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
  });

  it('that was cut goes on by the name or the id of its disk, and of no other', async () => {
    const { api, bytes, image } = await worldWithImage();
    const { id } = await api.disk('d2');
    const raw = new RawHttp(api.port);
    const query = `method=write-back&disk=${String(id)}`;
    raw.head(`POST /v1/restores?${query}`, { 'content-length': image.length });
    raw.send(image.subarray(0, 10));
    raw.socket.end();
    const { body } = await raw.answer();
    expect(body).toMatchObject({ code: 'BODY_TRUNCATED' });
    const part = (from: number, until: number) => ({
      'content-range': `bytes ${from}-${until - 1}/${image.length}`,
    });
    const from = body.receivedBytes as number;
    const on = `job=${String(body.job)}&disk=`;
    const other = await upload(api, `${on}d1`, image.subarray(from), part(from, image.length));
    expect(other.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'disk' });
    const gone = await upload(
      api,
      `${on}d2`,
      image.subarray(from + 1),
      part(from + 1, image.length),
    );
    expect(gone.body).toMatchObject({ code: 'RANGE_INVALID' });
    const rest = image.subarray(from);
    const done = await upload(api, `${on}${String(id)}`, rest, part(from, image.length));
    expect(done).toMatchObject({ status: 200, body: { state: 'succeeded' } });
    expect((await api.get(`/disks/d2/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
  });

  it('that was cut and is sent again whole with its key is taken from its first byte', async () => {
    const { api, bytes, image } = await worldWithImage();
    const key = { 'idempotency-key': 'kk1' };
    const raw = new RawHttp(api.port);
    raw.head('POST /v1/restores?method=remap&disk=kk', { ...key, 'content-length': image.length });
    raw.send(image.subarray(0, 600_000));
    raw.socket.end();
    const { body: cut } = await raw.answer();
    expect(cut).toMatchObject({ code: 'BODY_TRUNCATED', receivedBytes: expect.any(Number) });
    const other = await upload(api, 'method=remap&disk=k2', image, key);
    expect(other.body).toMatchObject({ status: 422, code: 'IDEMPOTENCY_KEY_REUSED' });
    const again = await upload(api, 'method=remap&disk=kk', image, key);
    expect(again).toMatchObject({ status: 201, body: { state: 'succeeded' } });
    expect(again.body.id).not.toBe(cut.job);
    expect((await api.get(`/jobs/${cut.job}`, { prefer: 'wait=9' })).body.endedAt).not.toBeNull();
    expect((await api.get(`/disks/kk/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
    const replayed = await upload(api, 'method=remap&disk=kk', image, key);
    expect(replayed).toMatchObject({ status: 201, bytes: again.bytes });
  });

  it('is checked against its digest', async () => {
    const { api, image } = await worldWithImage();
    const digestOf = (bytes: Buffer) =>
      `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`;
    const bad = { 'content-digest': digestOf(Buffer.alloc(1)) };
    const wrong = await upload(api, 'method=remap&disk=d2', image, bad);
    expect(wrong.body).toMatchObject({ status: 400, code: 'DIGEST_MISMATCH' });
    expect(wrong.body).not.toHaveProperty('receivedBytes');
    const malformed = await upload(api, 'method=remap&disk=d2', image, { 'content-digest': 'x' });
    expect(malformed.body).toMatchObject({ status: 400, code: 'VALIDATION_FAILED' });
    await vi.waitFor(async () => {
      expect((await api.get('/disks')).body.items).toHaveLength(1);
    });
    const part = { 'repr-digest': digestOf(image), 'content-range': 'bytes 5-9/10' };
    const refused = await upload(api, 'job=x', image.subarray(0, 5), part);
    expect(refused.body).toMatchObject({ code: 'VALIDATION_FAILED', field: 'repr-digest' });
    const good = { 'content-digest': digestOf(image) };
    await vi.waitFor(async () => {
      expect(await upload(api, 'method=remap&disk=d2', image, good)).toMatchObject({ status: 201 });
    });
  });

  it('is refused before it is sent, if that can be known', async () => {
    const { api } = await worldWithImage();
    const expectation = { expect: '100-continue', 'content-length': 5 * 1024 * MIB };
    for (const [query, status] of [
      ['method=remap&disk=d2', 507],
      ['method=remap', 400],
    ] as const) {
      const raw = new RawHttp(api.port);
      raw.head(`POST /v1/restores?${query}`, expectation);
      expect(await raw.answer()).toMatchObject({ status });
    }
  });
});

describe('a restore from a copy or backup', () => {
  it('is refused where its fields make no sense', async () => {
    const { api } = await worldWithImage();
    for (const json of [
      { method: 'remap' },
      { method: 'copy', disk: 'd2' },
      { method: 'remap', disk: 'd2', onlyDiffering: true },
      { method: 'remap', disk: 'd2', pool: 'default' },
    ]) {
      const post = { method: 'POST', json };
      await api.refused('/copies/monday/restores', post, 400, 'VALIDATION_FAILED');
    }
    const taken = { method: 'POST', json: { method: 'remap', disk: 'd1' } };
    await api.refused('/copies/monday/restores', taken, 409, 'NAME_TAKEN');
    const lost = { method: 'POST', json: { method: 'remap', disk: 'd2' } };
    await api.refused('/copies/none/restores', lost, 404, 'NOT_FOUND');
    await api.refused('/backups/none/restores', lost, 404, 'NOT_FOUND');
  });

  it('tells in a dry run what would be lost', async () => {
    const { api } = await worldWithImage();
    await api.put(`/disks/d1/data?offset=${MIB}`, randomBytes(MIB));
    const post = async (json: unknown) => api.post('/copies/monday/restores?dryRun=true', json);
    const back = await post({ method: 'write-back', disk: 'd1' });
    expect(back).toMatchObject({ status: 200, body: { wouldFreeBytes: MIB } });
    expect(back.body.affects).toMatchObject([{ kind: 'disk', name: 'd1' }]);
    const remap = await post({ method: 'remap', disk: 'd2' });
    expect(remap.body).toEqual({ wouldFreeBytes: 0, affects: [] });
    expect((await api.get('/disks')).body.items).toHaveLength(1);
  });

  it('of a backup that is not complete is refused', async () => {
    const { api } = await worldWithImage();
    await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
    const backup = { name: 'b1', copy: 'monday', target: 't', maxBytesPerSecond: 1 };
    const { id } = (await api.post('/backups', backup)).body;
    const post = { method: 'POST', json: { method: 'remap', disk: 'd2' } };
    const early = await api.refused('/backups/b1/restores', post, 409, 'BACKUP_INCOMPLETE');
    expect(early).toMatchObject({ retryable: true, backup: 'b1', state: 'creating' });
    await api.post(`/jobs/${id}/cancel`);
    await api.get(`/jobs/${id}`, { prefer: 'wait=9' });
    // marked as incomplete, or gone with what was on the target
    const { status } = await api.ask('/backups/b1/restores', post);
    expect([404, 409]).toContain(status);
  });
});
