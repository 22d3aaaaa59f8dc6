import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

async function patch(api: ApiWorld, path: string, json: unknown) {
  return api.ask(path, { method: 'PATCH', json });
}

async function remove(api: ApiWorld, path: string) {
  return api.ask(path, { method: 'DELETE' });
}

function namesOf(list: { items: { name: string }[] }): string[] {
  return list.items.map(({ name }) => name);
}

describe('pools', () => {
  it('are made, shown, grown and deleted', async () => {
    const api = await ApiWorld.start();
    const made = await api.post('/pools', {
      name: 'fast',
      files: [{ path: 'a', size: '16MiB' }],
      blockSizeBytes: 16384,
      lowWaterPercent: 50,
      criticalPercent: 60,
    });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/pools/fast');
    expect(made.body).toMatchObject({ blockSizeBytes: 16384, freeBytes: made.body.capacityBytes });
    expect((await api.get('/pools')).body.items).toHaveLength(2);
    const files = [
      { path: 'a', sizeBytes: 32 * MIB },
      { path: 'b', size: '8MiB' },
    ];
    const grown = await patch(api, '/pools/fast', { name: 'faster', files });
    expect(grown.body.capacityBytes).toBeGreaterThan(made.body.capacityBytes);
    expect(grown.headers.get('etag')).not.toBe(made.headers.get('etag'));
    expect((await api.get(`/pools/${made.body.id}`)).body).toEqual(grown.body);

    await api.disk('d1', { pool: 'faster' });
    for (const query of ['?dryRun=true', '']) {
      await api.refused(`/pools/faster${query}`, { method: 'DELETE' }, 409, 'POOL_IN_USE');
    }
    await remove(api, '/disks/d1');
    const dry = await remove(api, '/pools/faster?dryRun=true');
    expect(dry.body).toEqual({ wouldFreeBytes: grown.body.capacityBytes, affects: [] });
    expect(await remove(api, '/pools/faster')).toMatchObject({ status: 204 });
    await api.refused('/pools/faster', { method: 'DELETE' }, 404, 'NOT_FOUND');
  });

  it.each([
    [{ files: [] }],
    [{ files: [{ path: 'a' }] }],
    [{ files: [{ path: 'a', size: '1GiB', sizeBytes: GIB }] }],
    [{ files: [{ path: 'a', size: 'big' }] }],
    [{ files: [{ path: 'a', sizeBytes: 0 }] }],
    [{ files: [{ path: '', sizeBytes: GIB }] }],
    [{ blockSizeBytes: 65537 }],
    [{ blockSizeBytes: 2 * MIB }],
    [{ lowWaterPercent: 101 }],
    [{ lowWaterPercent: 50.5 }],
  ])('are refused with %j', async (wrong) => {
    const api = await ApiWorld.start();
    const json = { name: 'p', files: [{ path: 'a', sizeBytes: GIB }], ...wrong };
    await api.refused('/pools', { method: 'POST', json }, 400, 'VALIDATION_FAILED');
    expect((await api.get('/pools')).body.items).toHaveLength(1);
  });
});

describe('disks', () => {
  it('take sizes in either form, labels and options', async () => {
    const api = await ApiWorld.start();
    const made = await api.post('/disks', {
      name: 'd1',
      capacity: '1.5 GiB',
      labels: { team: 'a', empty: '' },
      detectZeroes: false,
    });
    expect(made.body).toMatchObject({
      capacityBytes: 1.5 * GIB,
      labels: { team: 'a', empty: '' },
      detectZeroes: false,
      users: [],
      job: null,
    });
    expect(made.body).not.toHaveProperty('exclusiveBytes');
    const shown = await api.get('/disks/d1');
    expect(shown.body).toEqual({ ...made.body, exclusiveBytes: 0 });
    expect((await api.get(`/disks/${made.body.id}`)).body).toEqual(shown.body);
  });

  it.each([
    [{}, 'VALIDATION_FAILED'],
    [{ capacityBytes: 0 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: -512 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 513 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 2 ** 53 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 1e300 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: '1GiB' }, 'VALIDATION_FAILED'],
    [{ capacityBytes: null }, 'VALIDATION_FAILED'],
    [{ capacity: '1KB' }, 'CAPACITY_INVALID'],
    [{ capacity: '0' }, 'CAPACITY_INVALID'],
    [{ capacity: '10PB' }, 'VALIDATION_FAILED'],
    [{ capacity: '9007199254740991' }, 'CAPACITY_INVALID'],
    [{ capacity: '-1GiB' }, 'VALIDATION_FAILED'],
    [{ capacity: '1GiB', capacityBytes: GIB }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 512, name: '' }, 'NAME_INVALID'],
    [{ capacityBytes: 512, name: '0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f' }, 'NAME_INVALID'],
    [{ capacityBytes: 512, name: 'x'.repeat(64) }, 'NAME_INVALID'],
    [{ capacityBytes: 512, name: '.x' }, 'NAME_INVALID'],
    [{ capacityBytes: 512, name: 7 }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 512, labels: { '': 'x' } }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 512, labels: { ['k'.repeat(64)]: 'x' } }, 'VALIDATION_FAILED'],
    [{ capacityBytes: 512, fromCopy: 'c' }, 'VALIDATION_FAILED'],
    [{ fromCopy: 'c', pool: 'default' }, 'VALIDATION_FAILED'],
  ])('are refused with %j', async (wrong, code) => {
    const api = await ApiWorld.start();
    const json = { name: 'd1', ...wrong };
    await api.refused('/disks', { method: 'POST', json }, 400, code);
    expect((await api.get('/disks')).body.items).toEqual([]);
  });

  it('of the largest size are made', async () => {
    const api = await ApiWorld.start();
    const made = await api.disk('d1', { capacityBytes: 2 ** 53 - 512 });
    expect(made.capacityBytes).toBe(2 ** 53 - 512);
    const last = await api.get(`/disks/d1/data?offset=${2 ** 53 - 513}&length=1`);
    expect(last.bytes).toEqual(Buffer.alloc(1));
  });

  it('of the largest capacity may be many: the sum is told as the largest number', async () => {
    const api = await ApiWorld.start();
    for (const name of ['d1', 'd2', 'd3']) await api.disk(name, { capacityBytes: 2 ** 53 - 512 });
    const { provisionedBytes } = (await api.get('/pools/default')).body;
    expect(provisionedBytes).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('are resized; shrinking below data needs discard', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put(`/disks/d1/data?offset=${32 * MIB}`, randomBytes(MIB));
    const shrink = { capacityBytes: 16 * MIB };
    const refused = { method: 'PATCH', json: shrink };
    await api.refused('/disks/d1', refused, 409, 'DISK_HAS_DATA_BEYOND');
    await api.refused('/disks/d1?dryRun=true', refused, 409, 'DISK_HAS_DATA_BEYOND');
    const dry = await patch(api, '/disks/d1?dryRun=true', { ...shrink, discard: true });
    expect(dry.body).toMatchObject({ wouldFreeBytes: MIB });
    const done = await patch(api, '/disks/d1', { ...shrink, discard: true });
    expect(done.body).toMatchObject({ capacityBytes: 16 * MIB, usedBytes: 0 });
    const grown = await patch(api, '/disks/d1', { capacity: '1TiB', name: 'big' });
    expect(grown.body).toMatchObject({ name: 'big', capacityBytes: 1024 * GIB });
    const nothing = await patch(api, '/disks/big?dryRun=true', { labels: {} });
    expect(nothing.body).toEqual({ wouldFreeBytes: 0, affects: [] });
  });

  it('share one name space with copies', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.copyOf('d1', 'c1');
    const disk = { method: 'POST', json: { name: 'c1', capacityBytes: 512 } };
    await api.refused('/disks', disk, 409, 'NAME_TAKEN');
    const rename = { method: 'PATCH', json: { name: 'd1' } };
    await api.refused('/copies/c1', rename, 409, 'NAME_TAKEN');
  });

  it('are made from copies, at once and independent', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const bytes = randomBytes(MIB);
    await api.put('/disks/d1/data', bytes);
    await api.copyOf('d1', 'c1');
    const made = await api.post('/disks', { name: 'd2', fromCopy: 'c1', labels: { a: 'b' } });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ capacityBytes: 64 * MIB, labels: { a: 'b' } });
    await api.put('/disks/d2/data', randomBytes(MIB));
    expect((await api.get(`/disks/d1/data?length=${MIB}`)).bytes.equals(bytes)).toBe(true);
    const lost = { method: 'POST', json: { name: 'd3', fromCopy: 'none' } };
    await api.refused('/disks', lost, 404, 'NOT_FOUND');
  });

  it('from a copy are made once, and the same request answers them again', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const { id } = await api.copyOf('d1', 'c1');
    const asked = { name: 'd2', fromCopy: 'c1', labels: { a: 'b' } };
    const both = await Promise.all([api.post('/disks', asked), api.post('/disks', asked)]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 201]);
    const again = async (more: object = {}) =>
      (await api.post('/disks', { ...asked, ...more })).status;
    expect(await again()).toBe(200);
    expect(await again({ fromCopy: id, detectZeroes: true, reserveBytes: 0 })).toBe(200);
    expect(await again({ labels: {} })).toBe(409);
    expect(await again({ detectZeroes: false })).toBe(409);
    expect((await api.post('/disks', { name: 'd2', capacity: '64MiB' })).status).toBe(409);
    await api.ask('/copies/c1', { method: 'PATCH', json: { name: 'c2' } });
    expect([await again(), await again({ fromCopy: 'c2' })]).toEqual([200, 200]);
    await api.copyOf('d1', 'c1');
    expect(await again()).toBe(409);
    await remove(api, '/copies/c1');
    await remove(api, '/copies/c2');
    expect([await again(), await again({ fromCopy: id })]).toEqual([200, 200]);
    // a restore is no such request
    await api.copyOf('d1', 'c3');
    const restore = { method: 'remap', disk: 'd2' };
    const taken = { method: 'POST', json: restore };
    await api.refused('/copies/c3/restores', taken, 409, 'NAME_TAKEN');
  });

  it('are deleted while their copies live', async () => {
    const api = await ApiWorld.start();
    const { id } = await api.disk('d1');
    await api.put('/disks/d1/data', randomBytes(MIB));
    expect((await api.get('/disks/d1')).body.exclusiveBytes).toBe(MIB);
    await api.copyOf('d1', 'c1');
    const dry = await remove(api, '/disks/d1?dryRun=true');
    expect(dry.body).toMatchObject({ wouldFreeBytes: 0, affects: [{ kind: 'disk', id }] });
    expect(await remove(api, '/disks/d1')).toMatchObject({ status: 204 });
    await api.refused('/disks/d1', { method: 'DELETE' }, 404, 'NOT_FOUND');
    const copy = (await api.get('/copies/c1')).body;
    expect(copy).toMatchObject({ disk: null, diskId: id, diskName: 'd1', exclusiveBytes: MIB });
    expect((await api.get('/copies?exclusive=true')).body.items[0].exclusiveBytes).toBe(MIB);
    expect((await api.get('/copies')).body.items[0]).not.toHaveProperty('exclusiveBytes');
    expect(await remove(api, '/copies/c1')).toMatchObject({ status: 204 });
  });
});

describe('lists', () => {
  it('come in pages that shift with nothing', async () => {
    const api = await ApiWorld.start();
    for (const name of ['a', 'b', 'c', 'd', 'e']) await api.disk(name);
    const first = (await api.get('/disks?pageSize=2')).body;
    expect(namesOf(first)).toEqual(['a', 'b']);
    await remove(api, '/disks/b');
    await remove(api, '/disks/c');
    const path = `/disks?pageSize=2&pageToken=${first.nextPageToken}`;
    const second = (await api.get(path)).body;
    expect(namesOf(second)).toEqual(['d', 'e']);
    expect(second.nextPageToken).toBeNull();
    const foreign = `/copies?pageToken=${first.nextPageToken}`;
    await api.refused(foreign, {}, 400, 'VALIDATION_FAILED');
  });

  it('are filtered by label, disk and pool', async () => {
    const api = await ApiWorld.start();
    await api.disk('a', { labels: { team: 'x' } });
    await api.disk('b', { labels: { team: 'y=z' } });
    await api.copyOf('a', 'ca');
    await api.copyOf('b', 'cb');
    const names = async (path: string) => {
      return namesOf((await api.get(path)).body);
    };
    expect(await names('/disks?label=team')).toEqual(['a', 'b']);
    expect(await names('/disks?label=team%3Dx')).toEqual(['a']);
    expect(await names('/disks?label=team%3Dy%3Dz')).toEqual(['b']);
    expect(await names('/disks?label=toString')).toEqual([]);
    expect(await names('/disks?pool=default&exclusive=true')).toEqual(['a', 'b']);
    expect(await names('/disks?pool=none')).toEqual([]);
    expect(await names('/copies?disk=a')).toEqual(['ca']);
    const { id } = (await api.get('/disks/b')).body;
    expect(await names(`/copies?disk=${id}`)).toEqual(['cb']);
  });
});

describe('targets and backups', () => {
  it('are made, renamed, listed, refused and deleted', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1', { labels: { a: 'b' } });
    const target = { name: 't1', kind: 'directory', path: 'backups' };
    const made = await api.post('/targets', target);
    expect(made.headers.get('location')).toBe('/v1/targets/t1');
    for (const wrong of [
      { ...target, kind: 'punch-cards' },
      { ...target, name: 't3', set: 'nightly' },
      { ...target, path: '' },
    ]) {
      const post = { method: 'POST', json: wrong };
      await api.refused('/targets', post, 400, 'VALIDATION_FAILED');
    }
    const outside = { method: 'POST', json: { ...target, name: 't3', path: '../x' } };
    await api.refused('/targets', outside, 400, 'PATH_NOT_ALLOWED');
    expect((await patch(api, '/targets/t1', { name: 't2' })).body).toMatchObject({ name: 't2' });

    const backup = { name: 'b1', disk: 'd1', target: 't2', labels: { x: 'y' } };
    const job = await api.post('/backups', backup, { prefer: 'respond-async, wait=9' });
    expect(job.body).toMatchObject({ kind: 'backup', state: 'succeeded', labels: { x: 'y' } });
    const both = { method: 'POST', json: { ...backup, name: 'b2', copy: 'c' } };
    await api.refused('/backups', both, 400, 'VALIDATION_FAILED');
    const neither = { method: 'POST', json: { name: 'b2', target: 't2' } };
    await api.refused('/backups', neither, 400, 'VALIDATION_FAILED');
    const level = { method: 'POST', json: { ...backup, name: 'b2', level: 'half' } };
    await api.refused('/backups', level, 400, 'VALIDATION_FAILED');

    for (const query of ['disk=d1', 'target=t2', 'state=complete', 'label=x%3Dy', '']) {
      expect((await api.get(`/backups?${query}`)).body.items).toHaveLength(1);
    }
    for (const query of ['disk=d2', 'target=t1', 'state=damaged', 'label=z']) {
      expect((await api.get(`/backups?${query}`)).body.items).toHaveLength(0);
    }
    const scan = await api.post('/targets/t2/scan', undefined, { prefer: 'wait=9' });
    expect(scan.body).toMatchObject({ kind: 'scan', state: 'succeeded' });
    await api.post('/backups/b1/verify', undefined, { prefer: 'wait=9' });
    const shown = (await api.get('/backups/b1')).body;
    expect(shown).toMatchObject({ state: 'complete', job: job.body.id, copyName: null });
    expect(shown.verifiedAt).not.toBeNull();

    const use = await remove(api, '/targets/t2');
    expect(use.body).toMatchObject({ code: 'TARGET_IN_USE' });
    const dry = await remove(api, '/targets/t2?dryRun=true');
    expect(dry.body).toMatchObject({ wouldFreeBytes: 0, affects: [{ name: 'b1' }] });
    const free = await remove(api, '/backups/b1?dryRun=true');
    expect(free.body).toMatchObject({ wouldFreeBytes: shown.mediumBytes });
    expect(await remove(api, '/backups/b1')).toMatchObject({ status: 204 });
    expect(await remove(api, '/targets/t2')).toMatchObject({ status: 204 });
  });
});
