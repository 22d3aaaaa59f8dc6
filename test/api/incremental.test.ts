import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld, type Answer } from '../support/api-world.ts';

const MIB = 1024 * 1024;
const wait = { prefer: 'wait=9' };

/** A disk `d1` and a target `t`. */
async function begun(): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.disk('d1');
  await api.put('/disks/d1/data?offset=0', randomBytes(MIB));
  await api.post('/targets', { name: 't', kind: 'directory', path: 'backups' });
  return api;
}

async function backUp(api: ApiWorld, name: string, more: object = {}): Promise<Answer> {
  const job = await api.post('/backups', { name, disk: 'd1', target: 't', ...more }, wait);
  expect(job.body).toMatchObject({ state: 'succeeded', result: { backup: name } });
  return job;
}

/** `full`, then `tue` and `wed`, each with a change. */
async function chain(): Promise<ApiWorld> {
  const api = await begun();
  await backUp(api, 'full');
  for (const [name, offset] of Object.entries({ tue: 0, wed: 65536 })) {
    await api.put(`/disks/d1/data?offset=${offset}`, randomBytes(65536));
    await backUp(api, name, { level: 'incremental' });
  }
  return api;
}

interface Shown {
  readonly name: string;
  readonly mediumBytes: number;
}

async function shown(api: ApiWorld): Promise<Shown[]> {
  return (await api.get('/backups')).body.items as Shown[];
}

async function names(api: ApiWorld): Promise<string[]> {
  return (await shown(api)).map(({ name }) => name);
}

describe('an incremental backup', () => {
  it('is built on the newest that suits, and shows its chain', async () => {
    const api = await chain();
    const full = (await api.get('/backups/full')).body;
    const [{ id }] = full.chain;
    expect(full).toMatchObject({ level: 'full', base: null, isChainComplete: true });
    expect(full).toMatchObject({ id, chain: [{ name: 'full' }], dataBytes: full.usedBytes });
    const tue = (await api.get('/backups/tue')).body;
    const wed = (await api.get('/backups/wed')).body;
    expect(tue.base).toMatchObject({ copyId: full.copyId, backup: 'full' });
    expect(wed).toMatchObject({ level: 'incremental', isChainComplete: true });
    expect(wed.base).toMatchObject({ copyId: tue.copyId, backup: 'tue' });
    expect(wed.base.generation).toBeGreaterThan(tue.base.generation);
    expect(wed.chain).toMatchObject([{ name: 'full' }, { name: 'tue' }, { name: 'wed' }]);
    expect(wed.dataBytes).toBeGreaterThan(0);
  });

  it('is built on the one that is named, a backup or a copy', async () => {
    const api = await chain();
    await backUp(api, 'thu', { level: 'incremental', base: 'full' });
    expect((await api.get('/backups/thu')).body.base.backup).toBe('full');
    const { copyId } = (await api.get('/backups/tue')).body;
    await api.post('/disks/d1/copies', { name: 'monday' });
    await backUp(api, 'fri', { disk: undefined, copy: 'monday' });
    await backUp(api, 'sat', { level: 'incremental', base: 'monday' });
    expect((await api.get('/backups/sat')).body.base.backup).toBe('fri');
    await backUp(api, 'sun', { level: 'incremental', base: copyId });
    expect((await api.get('/backups/sun')).body.base).toMatchObject({ copyId, backup: 'tue' });
  });

  it('without a base is refused, or full if that is asked for, and says so', async () => {
    const api = await begun();
    const request = { name: 'tue', disk: 'd1', target: 't', level: 'incremental' };
    const post = { method: 'POST', json: request };
    const refused = await api.refused('/backups', post, 409, 'BASE_MISSING');
    expect(refused).toMatchObject({ reason: 'no-backup', target: 't', retryable: false });
    expect(await names(api)).toEqual([]);
    const job = await backUp(api, 'tue', { level: 'incremental', onMissingBase: 'full' });
    expect(job.body.result).toMatchObject({ level: 'full', baseMissing: 'no-backup' });
    expect((await api.get('/backups/tue')).body).toMatchObject({ level: 'full', base: null });
    const next = await backUp(api, 'wed', { level: 'incremental', onMissingBase: 'full' });
    expect(next.body.result).toMatchObject({ level: 'incremental' });
    expect(next.body.result.baseMissing).toBeUndefined();
  });

  it('is refused where its fields make no sense', async () => {
    const api = await chain();
    const backup = { name: 'new', disk: 'd1', target: 't' };
    const wrong = [
      { base: 'full' },
      { onMissingBase: 'fail' },
      { level: 'full', base: 'full' },
      { level: 'incremental', onMissingBase: 'wait' },
      { level: 'incremental', parent: 'full' },
    ];
    for (const more of wrong) {
      const post = { method: 'POST', json: { ...backup, ...more } };
      await api.refused('/backups', post, 400, 'VALIDATION_FAILED');
    }
    const json = { ...backup, level: 'incremental', base: 'none', onMissingBase: 'full' };
    const problem = await api.refused('/backups', { method: 'POST', json }, 404, 'NOT_FOUND');
    expect(problem).toMatchObject({ field: 'base', base: 'none' });
    expect(await names(api)).toEqual(['full', 'tue', 'wed']);
  });
});

describe('the deletion of a member of a chain', () => {
  it('is refused with those that need it, also as a dry run', async () => {
    const api = await chain();
    for (const query of ['', '?dryRun=true', '?force=true']) {
      const problem = await api.refused(
        `/backups/full${query}`,
        { method: 'DELETE' },
        409,
        'BACKUP_NEEDED',
      );
      expect(problem.neededBy).toMatchObject([{ name: 'wed' }, { name: 'tue' }]);
    }
    expect(await names(api)).toEqual(['full', 'tue', 'wed']);
    expect((await api.ask('/backups/wed', { method: 'DELETE' })).status).toBe(204);
    await api.refused('/backups/full', { method: 'DELETE' }, 409, 'BACKUP_NEEDED');
  });

  it('takes along those that need it where that is asked for', async () => {
    const api = await chain();
    const [, tue, wed] = await shown(api);
    const wouldFreeBytes = tue!.mediumBytes + wed!.mediumBytes;
    const dry = await api.ask('/backups/tue?cascade=true&dryRun=true', { method: 'DELETE' });
    expect(dry).toMatchObject({ status: 200, body: { wouldFreeBytes } });
    expect(dry.body.affects).toMatchObject([
      { kind: 'backup', name: 'wed' },
      { kind: 'backup', name: 'tue' },
    ]);
    expect(await names(api)).toEqual(['full', 'tue', 'wed']);
    const gone = await api.ask('/backups/tue?cascade=true', { method: 'DELETE' });
    expect(gone.status).toBe(204);
    expect(await names(api)).toEqual(['full']);
  });
});

describe('a consolidation', () => {
  it('makes a full backup, after which the members can go', async () => {
    const api = await chain();
    const json = { name: 'new-full', labels: { a: 'b' } };
    const job = await api.post('/backups/wed/consolidate', json, wait);
    expect(job.status).toBe(202);
    expect(job.body).toMatchObject({
      kind: 'consolidate',
      state: 'succeeded',
      subject: { backup: 'new-full', from: 'wed' },
      result: { backup: 'new-full' },
    });
    const wed = (await api.get('/backups/wed')).body;
    const made = (await api.get('/backups/new-full')).body;
    expect(made).toMatchObject({ level: 'full', base: null, state: 'complete' });
    expect(made.chain).toMatchObject([{ name: 'new-full' }]);
    expect(made.copyId).toBe(wed.copyId);
    const gone = await api.ask('/backups/full?cascade=true', { method: 'DELETE' });
    expect(gone.status).toBe(204);
    expect(await names(api)).toEqual(['new-full']);
    await api.put('/disks/d1/data?offset=0', randomBytes(65536));
    await backUp(api, 'thu', { level: 'incremental' });
    expect((await api.get('/backups/thu')).body.base.backup).toBe('new-full');
  });

  it('is refused under a taken or wrong name, and of what is not there', async () => {
    const api = await chain();
    const post = (json: object) => ({ method: 'POST', json });
    const path = '/backups/wed/consolidate';
    await api.refused(path, post({ name: 'tue' }), 409, 'NAME_TAKEN');
    await api.refused(path, post({ name: 'No' }), 400, 'NAME_INVALID');
    await api.refused(path, post({}), 400, 'VALIDATION_FAILED');
    await api.refused('/backups/none/consolidate', post({ name: 'x' }), 404, 'NOT_FOUND');
    const slow = { name: 'thu', disk: 'd1', target: 't', maxBytesPerSecond: 1 };
    const { id } = (await api.post('/backups', slow)).body;
    const early = '/backups/thu/consolidate';
    await api.refused(early, post({ name: 'x' }), 409, 'BACKUP_INCOMPLETE');
    await api.post(`/jobs/${id}/cancel`);
    await api.get(`/jobs/${id}`, { prefer: 'wait=9' });
  });
});
