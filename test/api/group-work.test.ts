import { randomBytes } from 'node:crypto';
import { cp } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import type { Answer } from '../support/api-world.ts';
import { isOverEngine } from '../support/make-services.ts';

const MIB = 1024 * 1024;
const DISKS = ['x', 'y', 'z'];
const wait = { prefer: 'wait=20' };

/** Disks x, y and z (in a pool of its own) with a MiB each, their group g, and a target t. */
async function worldWithGroup(): Promise<{ api: ApiWorld; bytes: Record<string, Buffer> }> {
  const api = await ApiWorld.start();
  await api.post('/pools', { name: 'p2', files: [{ path: 'p2', sizeBytes: 64 * MIB }] });
  const bytes: Record<string, Buffer> = {};
  for (const name of DISKS) {
    await api.disk(name, name === 'z' ? { pool: 'p2' } : {});
    bytes[name] = randomBytes(MIB);
    await api.put(`/disks/${name}/data`, bytes[name]);
  }
  await api.post('/groups', { name: 'g', disks: DISKS });
  await api.post('/targets', { name: 't', kind: 'directory', path: 'backups' });
  return { api, bytes };
}

async function overwrite(api: ApiWorld): Promise<Record<string, Buffer>> {
  const bytes: Record<string, Buffer> = {};
  for (const name of DISKS) {
    bytes[name] = randomBytes(2 * MIB);
    await api.put(`/disks/${name}/data`, bytes[name]);
  }
  return bytes;
}

async function expectHolds(api: ApiWorld, disk: string, bytes: Buffer): Promise<void> {
  const found = await api.get(`/disks/${disk}/data?length=${bytes.length}`);
  expect(found.bytes.equals(bytes), disk).toBe(true);
}

/** The backups of a group backup, by name. */
async function members(api: ApiWorld, query: string): Promise<{ name: string }[]> {
  const { items } = (await api.get(`/backups?group=${query}`)).body;
  return (items as { name: string }[]).sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function backedUp(api: ApiWorld, name: string): Promise<Answer> {
  const answer = await api.post(`/groups/g/backups`, { name, target: 't' }, wait);
  expect(answer.body).toMatchObject({ kind: 'group-backup', state: 'succeeded' });
  return answer;
}

describe('a backup of a group', () => {
  it('is one job that makes an ordinary backup of each copy', async () => {
    const { api } = await worldWithGroup();
    const { body } = await backedUp(api, 'n1');
    const names = ['n1-x', 'n1-y', 'n1-z'];
    expect(body.result).toMatchObject({
      group: 'n1',
      backups: names.map((backup) => ({ backup })),
    });
    const items = await members(api, 'n1');
    const { groupId } = body.result;
    const shown = { state: 'complete', group: 'n1', groupId, job: body.id };
    expect(items).toMatchObject(names.map((name) => ({ ...shown, name })));
    expect(await members(api, groupId)).toHaveLength(3);
    expect((await api.get('/backups?group=other')).body.items).toEqual([]);
    const verified = await api.post('/backups/n1-z/verify', undefined, wait);
    expect(verified.body).toMatchObject({ state: 'succeeded', result: { damaged: [] } });
    const restore = { method: 'remap', disk: 'alone' };
    const alone = await api.post('/backups/n1-y/restores', restore, wait);
    expect(alone.body).toMatchObject({ kind: 'restore', state: 'succeeded' });
  });

  it('can be asked for at /backups, incremental too', async () => {
    const { api } = await worldWithGroup();
    await backedUp(api, 'n1');
    await overwrite(api);
    await api.post('/groups', { name: 'g2', disks: DISKS });
    const asked = { name: 'n2', group: 'g2', target: 't', level: 'incremental' };
    const { body } = await api.post('/backups', asked, wait);
    expect(body).toMatchObject({ kind: 'group-backup', state: 'succeeded' });
    const items = await members(api, 'n2');
    expect(items).toMatchObject(
      DISKS.map((disk) => ({ name: `n2-${disk}`, level: 'incremental' })),
    );
  });

  it('is refused if it cannot be whole', async () => {
    const { api } = await worldWithGroup();
    const post = (json: object) => ({ method: 'POST', json: { target: 't', ...json } });
    const path = '/groups/g/backups';
    await api.refused(path, post({ name: 'n'.repeat(62) }), 400, 'NAME_INVALID');
    await api.refused(path, post({ name: 'No' }), 400, 'NAME_INVALID');
    await api.refused(path, post({ name: 'n', target: 'none' }), 404, 'NOT_FOUND');
    await api.refused(path, post({ name: 'n', base: 'b' }), 400, 'VALIDATION_FAILED');
    const incremental = post({ name: 'n', level: 'incremental' });
    await api.refused(path, incremental, 409, 'BASE_MISSING');
    await api.refused('/groups/none/backups', post({ name: 'n' }), 404, 'NOT_FOUND');
    for (const json of [{ group: 'g', copy: 'g-x' }, { group: 'g', base: 'b' }, {}]) {
      await api.refused('/backups', post({ name: 'n', ...json }), 400, 'VALIDATION_FAILED');
    }
    await api.post('/backups', { name: 'n-y', copy: 'g-y', target: 't' }, wait);
    await api.refused(path, post({ name: 'n' }), 409, 'NAME_TAKEN');
    await backedUp(api, 'm');
    await api.refused(path, post({ name: 'm' }), 409, 'NAME_TAKEN');
    const alone = { name: 'm', copy: 'g-x' };
    await api.refused('/backups', post(alone), 409, 'NAME_TAKEN');
    await api.ask('/copies/g-z', { method: 'DELETE' });
    await api.refused(path, post({ name: 'k' }), 404, 'NOT_FOUND');
    expect((await api.get('/backups')).body.items).toHaveLength(4);
  });

  it('with its Idempotency-Key again is the same job', async () => {
    const { api } = await worldWithGroup();
    const key = { 'idempotency-key': 'k' };
    const first = await api.post('/groups/g/backups', { name: 'n', target: 't' }, key);
    const second = await api.post('/groups/g/backups', { name: 'n', target: 't' }, key);
    expect([second.status, second.body.id]).toEqual([202, first.body.id]);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    const done = await api.get(`/jobs/${first.body.id}`, wait);
    expect(done.body.state).toBe('succeeded');
  });

  it('that is cancelled leaves nothing', async () => {
    const { api } = await worldWithGroup();
    const asked = { name: 'n', target: 't', maxBytesPerSecond: 1000 };
    const { body } = await api.post('/groups/g/backups', asked);
    const used = { method: 'DELETE' };
    const items = await members(api, 'n');
    expect(items).toMatchObject(DISKS.map(() => ({ state: 'creating' })));
    await api.post(`/jobs/${body.id}/cancel`);
    const ended = await api.get(`/jobs/${body.id}`, wait);
    expect(ended.body.state).toBe('cancelled');
    expect((await api.get('/backups')).body.items).toEqual([]);
    const scan = await api.post('/targets/t/scan', undefined, wait);
    expect(scan.body).toMatchObject({ state: 'succeeded' });
    expect((await api.get('/backups')).body.items).toEqual([]);
    expect((await api.ask('/groups/g', used)).status).toBe(204);
  });
});

describe('a restore of a group from its copies', () => {
  it('makes new disks, all at once', async () => {
    const { api, bytes } = await worldWithGroup();
    await overwrite(api);
    const disks = [{ disk: 'y', to: 'other' }];
    const made = await api.post('/groups/g/restores', { method: 'remap', name: 'r', disks });
    expect(made.status).toBe(201);
    const names = ['r-x', 'other', 'r-z'];
    expect(made.body.disks).toMatchObject(names.map((name) => ({ name, capacityBytes: 64 * MIB })));
    for (const [index, name] of names.entries()) {
      await expectHolds(api, name, bytes[DISKS[index]!]!);
    }
    const key = { 'idempotency-key': 'k' };
    const asked = { method: 'remap', name: 'again' };
    const first = await api.post('/groups/g/restores', asked, key);
    const second = await api.post('/groups/g/restores', asked, key);
    expect([second.status, second.bytes]).toEqual([201, first.bytes]);
  });

  it('puts all working disks back, or others', async () => {
    const { api, bytes } = await worldWithGroup();
    await overwrite(api);
    const dry = await api.post('/groups/g/restores?dryRun=true', { method: 'write-back' });
    expect(dry.body.wouldFreeBytes).toBe(6 * MIB);
    expect(dry.body.affects).toMatchObject(DISKS.map((name) => ({ kind: 'disk', name })));
    const asked = { method: 'write-back', safetyCopy: 's' };
    const done = await api.post('/groups/g/restores', asked, wait);
    expect(done.status).toBe(202);
    expect(done.body).toMatchObject({ kind: 'group-restore', state: 'succeeded' });
    expect(done.body.result).toMatchObject({ disks: DISKS.map((disk) => ({ disk })) });
    for (const name of DISKS) await expectHolds(api, name, bytes[name]!);
    await api.disk('w');
    const disks = [{ disk: 'x', to: 'w' }];
    const moved = await api.post('/groups/g/restores', { method: 'write-back', disks }, wait);
    expect(moved.body).toMatchObject({ state: 'succeeded' });
    await expectHolds(api, 'w', bytes['x']!);
  });

  it('is refused if it cannot be whole, and changes nothing', async () => {
    const { api } = await worldWithGroup();
    const later = await overwrite(api);
    const refused = async (json: object, status: number, code: string): Promise<void> => {
      await api.refused('/groups/g/restores', { method: 'POST', json }, status, code);
    };
    await refused({ method: 'remap' }, 400, 'VALIDATION_FAILED');
    await refused({ method: 'copy', name: 'r' }, 400, 'VALIDATION_FAILED');
    await refused({ method: 'remap', name: 'r', force: true }, 400, 'VALIDATION_FAILED');
    await refused({ method: 'write-back', name: 'r' }, 400, 'VALIDATION_FAILED');
    await refused({ method: 'remap', name: 'r'.repeat(62) }, 400, 'NAME_INVALID');
    const unknown = [{ disk: 'w', to: 'v' }];
    await refused({ method: 'remap', name: 'r', disks: unknown }, 400, 'VALIDATION_FAILED');
    const same = [{ disk: 'x', to: 'y' }];
    await refused({ method: 'write-back', disks: same }, 400, 'VALIDATION_FAILED');
    await api.disk('r-z');
    await refused({ method: 'remap', name: 'r' }, 409, 'NAME_TAKEN');
    await api.ask('/disks/y', { method: 'DELETE' });
    await refused({ method: 'write-back' }, 404, 'NOT_FOUND');
    await api.ask('/copies/g-y', { method: 'DELETE' });
    await refused({ method: 'remap', name: 'q' }, 404, 'NOT_FOUND');
    expect((await api.get('/disks')).body.items).toHaveLength(3);
    for (const name of ['x', 'z']) await expectHolds(api, name, later[name]!);
  });
});

describe('a restore of a group from its backups', () => {
  it('makes new disks, though group and disks are gone', async () => {
    const { api, bytes } = await worldWithGroup();
    await backedUp(api, 'n');
    await api.ask('/groups/g', { method: 'DELETE' });
    for (const name of DISKS) await api.ask(`/disks/${name}`, { method: 'DELETE' });
    const asked = { method: 'remap', name: 'r', disks: [{ disk: 'z', to: 'z' }] };
    const { body } = await api.post('/backups/n/restores', asked, wait);
    expect(body).toMatchObject({ kind: 'group-restore', state: 'succeeded' });
    for (const [disk, name] of [
      ['x', 'r-x'],
      ['y', 'r-y'],
      ['z', 'z'],
    ] as const) {
      await expectHolds(api, name, bytes[disk]!);
    }
  });

  it('puts all working disks back', async () => {
    const { api, bytes } = await worldWithGroup();
    await backedUp(api, 'n');
    await overwrite(api);
    const dry = await api.post('/backups/n/restores?dryRun=true', { method: 'write-back' });
    expect(dry.body.affects).toMatchObject(DISKS.map((name) => ({ kind: 'disk', name })));
    const { body } = await api.post('/backups/n/restores', { method: 'write-back' }, wait);
    expect(body).toMatchObject({ kind: 'group-restore', state: 'succeeded' });
    for (const name of DISKS) await expectHolds(api, name, bytes[name]!);
  });

  it.runIf(isOverEngine)(
    'counts each disk once in a dry run, on however many targets',
    async () => {
      const { api } = await worldWithGroup();
      await backedUp(api, 'n');
      const { path } = (await api.get('/targets/t')).body;
      await cp(path, `${path}-2`, { recursive: true });
      await api.post('/targets', { name: 't2', kind: 'directory', path: `${path}-2` });
      const scan = await api.post('/targets/t2/scan', undefined, wait);
      expect(scan.body).toMatchObject({ state: 'succeeded' });
      expect(await members(api, 'n')).toHaveLength(6);
      const dry = await api.post('/backups/n/restores?dryRun=true', { method: 'write-back' });
      const affects = dry.body.affects as { name: string }[];
      expect(affects.map(({ name }) => name)).toEqual(DISKS);
    },
  );

  it('is refused with what only one disk has, and names of groups only for groups', async () => {
    const { api } = await worldWithGroup();
    await backedUp(api, 'n');
    const refused = async (path: string, json: object, code: string): Promise<void> => {
      await api.refused(`/backups/${path}/restores`, { method: 'POST', json }, 400, code);
    };
    await refused('n', { method: 'copy', copy: 'c' }, 'VALIDATION_FAILED');
    await refused('n', { method: 'remap', name: 'r', disk: 'd' }, 'VALIDATION_FAILED');
    await refused('n', { method: 'write-back', keepPartial: true }, 'VALIDATION_FAILED');
    await refused('n', { method: 'write-back', pool: 'p2' }, 'VALIDATION_FAILED');
    await refused('n-x', { method: 'remap', disk: 'd', name: 'r' }, 'VALIDATION_FAILED');
    const lost = { method: 'POST', json: { method: 'remap', name: 'r' } };
    await api.refused('/backups/none/restores', lost, 404, 'NOT_FOUND');
  });
});
