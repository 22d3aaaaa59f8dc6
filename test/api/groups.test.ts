import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { metadataFull } from '../support/rows.ts';
import { ApiWorld } from '../support/api-world.ts';
import type { Answer } from '../support/api-world.ts';

const MIB = 1024 * 1024;
const LONG = 'd'.repeat(63);

/** Disks x, y and z with a MiB each; z in a pool of its own. */
async function threeDisks(): Promise<{ api: ApiWorld; bytes: Record<string, Buffer> }> {
  const api = await ApiWorld.start();
  await api.post('/pools', { name: 'p2', files: [{ path: 'p2', sizeBytes: 64 * MIB }] });
  const bytes: Record<string, Buffer> = {};
  for (const name of ['x', 'y', 'z']) {
    await api.disk(name, name === 'z' ? { pool: 'p2' } : {});
    bytes[name] = randomBytes(MIB);
    await api.put(`/disks/${name}/data`, bytes[name]);
  }
  return { api, bytes };
}

function namesOf(items: readonly { name: string }[]): string[] {
  return items.map(({ name }) => name);
}

async function remove(api: ApiWorld, path: string): Promise<Answer> {
  return api.ask(path, { method: 'DELETE' });
}

describe('a group', () => {
  it('is copies of several disks, of any pools', async () => {
    const { api, bytes } = await threeDisks();
    const y = (await api.get('/disks/y')).body;
    const disks = ['x', { disk: y.id, copy: 'y-monday' }, { disk: 'z' }];
    const labels = { day: 'monday' };
    const made = await api.post('/groups', { name: 'g1', disks, labels, layout: 'full' });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/groups/g1');
    expect(made.body.copies).toMatchObject([
      { name: 'g1-x', disk: 'x', state: 'ready', pool: 'default' },
      { name: 'y-monday', disk: 'y', state: 'ready', pool: 'default' },
      { name: 'g1-z', disk: 'z', state: 'ready', pool: 'p2' },
    ]);
    expect(made.body.haltMicroseconds).toBeGreaterThan(0);
    expect(made.body).toMatchObject({ name: 'g1', labels, version: 1 });
    for (const [copy, disk] of [
      ['g1-x', 'x'],
      ['y-monday', 'y'],
      ['g1-z', 'z'],
    ] as const) {
      await api.put(`/disks/${disk}/data`, randomBytes(MIB));
      const shown = (await api.get(`/copies/${copy}`)).body;
      const { id, haltMicroseconds } = made.body;
      expect(shown).toMatchObject({ group: 'g1', groupId: id, haltMicroseconds });
      expect(shown).toMatchObject({ layout: 'full', labels });
      const data = await api.get(`/copies/${copy}/data?view=compact`);
      expect(data.bytes.equals(bytes[disk]!)).toBe(true);
    }
    const shown = await api.get(`/groups/${made.body.id}`);
    expect(shown.body).toEqual(made.body);
    expect(shown.headers.get('etag')).toBe(made.headers.get('etag'));
  });

  it('is listed by page and label', async () => {
    const { api } = await threeDisks();
    for (const name of ['a', 'b', 'c']) {
      await api.post('/groups', { name, disks: ['x'], labels: name === 'b' ? { k: 'v' } : {} });
    }
    const first = (await api.get('/groups?pageSize=2')).body;
    expect(namesOf(first.items)).toEqual(['a', 'b']);
    const rest = (await api.get(`/groups?pageToken=${first.nextPageToken}`)).body;
    expect(namesOf(rest.items)).toEqual(['c']);
    const labelled = (await api.get('/groups?label=k%3Dv')).body.items;
    expect(namesOf(labelled)).toEqual(['b']);
    await api.refused('/groups/none', {}, 404, 'NOT_FOUND');
  });

  it('shows a copy that was deleted alone as deleted, and new names', async () => {
    const { api } = await threeDisks();
    await api.post('/groups', { name: 'g', disks: ['x', 'y'] });
    await remove(api, '/copies/g-x');
    await api.ask('/copies/g-y', { method: 'PATCH', json: { name: 'kept' } });
    await remove(api, '/disks/y');
    const { copies } = (await api.get('/groups/g')).body;
    expect(copies).toMatchObject([
      { name: 'g-x', disk: 'x', state: 'deleted' },
      { name: 'kept', disk: null, diskName: 'y', state: 'ready' },
    ]);
    expect(copies[0]).not.toHaveProperty('usedBlocks');
    await remove(api, '/copies/kept');
    expect((await api.get('/groups/g')).body.copies[1]).toMatchObject({ state: 'deleted' });
    expect(await remove(api, '/groups/g')).toMatchObject({ status: 204 });
  });
});

describe('a request for a group', () => {
  it.each([
    [{ disks: [] }, 400, 'VALIDATION_FAILED', 'disks'],
    [{}, 400, 'VALIDATION_FAILED', 'disks'],
    [{ disks: Array.from({ length: 65 }, () => 'x') }, 400, 'VALIDATION_FAILED', 'disks'],
    [{ disks: ['x', 'y', 'x'] }, 400, 'VALIDATION_FAILED', 'disks/2'],
    [{ disks: ['x', { disk: 'y', copy: 'g-x' }] }, 400, 'VALIDATION_FAILED', 'disks/1'],
    [{ disks: [{ disk: 'x', copy: 'g' }] }, 400, 'VALIDATION_FAILED', 'disks/0'],
    [{ disks: ['x', LONG] }, 400, 'NAME_INVALID', 'disks/1'],
    [{ disks: ['x', { disk: 'y', copy: 'No' }] }, 400, 'VALIDATION_FAILED', undefined],
    [{ disks: [{ disk: 'x', name: 'y' }] }, 400, 'VALIDATION_FAILED', undefined],
    [{ disks: ['x'], placement: 'shared' }, 400, 'VALIDATION_FAILED', 'placement'],
    [{ disks: ['x'], name: 'No' }, 400, undefined, 'name'],
    [{ disks: ['x', 'none'] }, 404, 'NOT_FOUND', undefined],
    [{ disks: ['x', { disk: 'y', copy: 'z' }] }, 409, 'NAME_TAKEN', undefined],
  ] as const)('%j is refused, and nothing is frozen', async (asked, status, code, field) => {
    const { api } = await threeDisks();
    await api.disk(LONG);
    const answer = await api.post('/groups', { name: 'g', ...asked });
    expect(answer.status).toBe(status);
    if (code !== undefined) expect(answer.body.code).toBe(code);
    if (field !== undefined) expect(answer.body.field).toBe(field);
    expect((await api.get('/groups')).body.items).toEqual([]);
    expect((await api.get('/copies')).body.items).toEqual([]);
    const again = await api.post('/groups', { name: 'g', disks: ['x', 'y'] });
    expect(again.status).toBe(201);
  });

  it('shares one name space with disks and copies', async () => {
    const { api } = await threeDisks();
    const { id } = (await api.post('/groups', { name: 'g', disks: ['x'] })).body;
    const again = await api.post('/groups', { name: 'g', disks: ['y'] });
    expect(again.body).toMatchObject({ status: 409, code: 'NAME_TAKEN', id });
    const disk = { method: 'POST', json: { name: 'g', capacityBytes: 512 } };
    await api.refused('/disks', disk, 409, 'NAME_TAKEN');
    await api.refused(
      '/disks/x/copies',
      { method: 'POST', json: { name: 'g' } },
      409,
      'NAME_TAKEN',
    );
    await api.refused(
      '/groups',
      { method: 'POST', json: { name: 'x', disks: ['y'] } },
      409,
      'NAME_TAKEN',
    );
    await api.refused('/copies/g', {}, 404, 'NOT_FOUND');
  });

  it('with its Idempotency-Key again has no second effect', async () => {
    const { api } = await threeDisks();
    const key = { 'idempotency-key': 'k' };
    const asked = { name: 'g', disks: ['x', 'z'] };
    const first = await api.post('/groups', asked, key);
    await remove(api, '/groups/g');
    const second = await api.post('/groups', asked, key);
    expect(second.status).toBe(201);
    expect(second.bytes).toEqual(first.bytes);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect((await api.get('/groups')).body.items).toEqual([]);
  });

  it('that cannot be made durable leaves no group, copy or name', async () => {
    const { api } = await threeDisks();
    api.made.services.records.failNextCommit(metadataFull());
    const key = { 'idempotency-key': 'k' };
    const asked = { name: 'g', disks: ['x', 'z'] };
    const failed = await api.post('/groups', asked, key);
    expect(failed.body).toMatchObject({ status: 507, code: 'METADATA_FULL' });
    expect((await api.get('/groups')).body.items).toEqual([]);
    expect(await api.post('/groups', asked, key)).toMatchObject({ status: 201 });
  });
});

describe('deleting a group', () => {
  it('takes all its copies, and says before what it would free', async () => {
    const { api } = await threeDisks();
    await api.post('/groups', { name: 'g', disks: ['x', 'y', 'z'] });
    for (const name of ['x', 'y', 'z']) await api.put(`/disks/${name}/data`, randomBytes(MIB));
    const dry = await remove(api, '/groups/g?dryRun=true');
    expect(dry.status).toBe(200);
    expect(dry.body.wouldFreeBytes).toBe(3 * MIB);
    const copies = ['x', 'y', 'z'].map((disk) => ({ kind: 'copy', name: `g-${disk}` }));
    expect(dry.body.affects).toMatchObject([{ kind: 'group', name: 'g' }, ...copies]);
    const stale = { method: 'DELETE', headers: { 'if-match': '"old"' } };
    await api.refused('/groups/g', stale, 412, 'PRECONDITION_FAILED');
    expect(await remove(api, '/groups/g')).toMatchObject({ status: 204 });
    expect((await api.get('/copies')).body.items).toEqual([]);
    await api.refused('/groups/g', { method: 'DELETE' }, 404, 'NOT_FOUND');
    expect(await api.post('/groups', { name: 'g', disks: ['x'] })).toMatchObject({ status: 201 });
  });

  it('is refused while one of them is read, or by force ends that', async () => {
    const { api } = await threeDisks();
    await api.post('/groups', { name: 'g', disks: ['x', 'y'] });
    let release = (): void => undefined;
    const user = { kind: 'download', id: 'u', sinceMs: 0, abort: () => release() };
    release = api.services.copies.get('g-y').addUser(user);
    for (const path of ['/groups/g', '/groups/g?dryRun=true']) {
      const problem = await api.refused(path, { method: 'DELETE' }, 409, 'COPY_IN_USE');
      const users = [{ kind: 'download', id: 'u', since: '1970-01-01T00:00:00.000Z' }];
      expect(problem).toMatchObject({ copy: 'g-y', users });
    }
    expect((await api.get('/copies')).body.items).toHaveLength(2);
    const dry = await remove(api, '/groups/g?dryRun=true&force=true');
    expect(dry.body.affects).toContainEqual({ kind: 'download', id: 'u' });
    expect(await remove(api, '/groups/g?force=true')).toMatchObject({ status: 204 });
    expect((await api.get('/copies')).body.items).toEqual([]);
  });
});
