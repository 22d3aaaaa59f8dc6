import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

/** A backup that would last for ever. */
async function slowJob(api: ApiWorld): Promise<string> {
  await api.disk('d1');
  await api.put('/disks/d1/data', randomBytes(100_000));
  await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
  const backup = { name: 'b1', disk: 'd1', target: 't', maxBytesPerSecond: 1 };
  const answer = await api.post('/backups', { ...backup, labels: { a: 'b' } });
  expect(answer.status).toBe(202);
  return answer.body.id as string;
}

describe('a job', () => {
  it('is shown, paused, resumed, changed and cancelled, again and again', async () => {
    const api = await ApiWorld.start();
    const id = await slowJob(api);
    const shown = (await api.get(`/jobs/${id}`)).body;
    expect(shown).toMatchObject({
      kind: 'backup',
      subject: { backup: 'b1', disk: 'd1', target: 't' },
      maxBytesPerSecond: 1,
      endedAt: null,
      problem: null,
      result: null,
      labels: { a: 'b' },
    });
    for (const status of [200, 200]) {
      expect(await api.post(`/jobs/${id}/pause`)).toMatchObject({ status });
    }
    expect((await api.get(`/jobs/${id}`)).body.state).toBe('paused');
    for (const status of [200, 200]) {
      expect(await api.post(`/jobs/${id}/resume`)).toMatchObject({ status });
    }
    const patch = (json: unknown) => ({ method: 'PATCH', json });
    const limit = await api.ask(`/jobs/${id}`, patch({ maxBytesPerSecond: 2 }));
    expect(limit.body.maxBytesPerSecond).toBe(2);
    for (const wrong of [{}, { maxBytesPerSecond: 0 }, { maxBytesPerSecond: 1, state: 'x' }]) {
      await api.refused(`/jobs/${id}`, patch(wrong), 400, 'VALIDATION_FAILED');
    }
    for (const status of [200, 200]) {
      expect(await api.post(`/jobs/${id}/cancel`)).toMatchObject({ status });
    }
    const ended = await api.get(`/jobs/${id}`, { prefer: 'wait=9' });
    expect(ended.body.state).toBe('cancelled');
    expect(ended.body.endedAt).not.toBeNull();
    await api.refused(`/jobs/${id}/pause`, { method: 'POST' }, 409, 'JOB_STATE');
    expect(await api.post(`/jobs/${id}/cancel`)).toMatchObject({ status: 200 });
  });

  it('ends when its limit is lifted', async () => {
    const api = await ApiWorld.start();
    const id = await slowJob(api);
    const none = { method: 'PATCH', json: { maxBytesPerSecond: null } };
    expect((await api.ask(`/jobs/${id}`, none)).body.maxBytesPerSecond).toBeNull();
    const ended = await api.get(`/jobs/${id}`, { prefer: 'wait=20' });
    expect(ended.body).toMatchObject({ state: 'succeeded', result: { backup: 'b1' } });
  });

  it('that does not exist is told', async () => {
    const api = await ApiWorld.start();
    for (const path of ['/jobs/none', '/jobs/0193e4c4-7d5c-7c3a-9f6e-2b1a4c5d6e7f']) {
      await api.refused(path, {}, 404, 'NOT_FOUND');
      await api.refused(path, { headers: { prefer: 'wait=5' } }, 404, 'NOT_FOUND');
      await api.refused(`${path}/cancel`, { method: 'POST' }, 404, 'NOT_FOUND');
    }
  });

  it('is waited for, at most for the time and while the client is there', async () => {
    const api = await ApiWorld.start({ limits: { longPollMs: 30 } });
    const id = await slowJob(api);
    const waited = await api.get(`/jobs/${id}`, { prefer: 'wait=600' });
    expect(waited.headers.get('preference-applied')).toBe('wait=600');
    expect(waited.body.endedAt).toBeNull();
    for (const prefer of ['wait', 'wait=-1', 'wait=x', 'return=minimal']) {
      const answer = await api.get(`/jobs/${id}`, { prefer });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('preference-applied')).toBeNull();
    }
    const raw = new RawHttp(api.port);
    raw.head(`GET /v1/jobs/${id}`, { prefer: 'wait=600' });
    raw.socket.destroy();
    await api.post(`/jobs/${id}/cancel`);
  });

  it('is found by state, kind, disk, target and label, newest first', async () => {
    const api = await ApiWorld.start();
    const id = await slowJob(api);
    const check = (await api.post('/checks', undefined, { prefer: 'wait=9' })).body;
    expect(check).toMatchObject({ kind: 'check', state: 'succeeded' });
    const ids = async (query: string) => {
      const { items } = (await api.get(`/jobs?${query}`)).body as { items: { id: string }[] };
      return items.map((job) => job.id);
    };
    expect(await ids('')).toEqual([check.id, id]);
    expect(await ids('state=succeeded')).toEqual([check.id]);
    for (const query of ['kind=backup', 'disk=d1', 'target=t', 'label=a%3Db', 'label=a']) {
      expect(await ids(query)).toEqual([id]);
    }
    expect(await ids('label=a%3Dc')).toEqual([]);
    const first = (await api.get('/jobs?pageSize=1')).body;
    expect(await ids(`pageSize=1&pageToken=${first.nextPageToken}`)).toEqual([id]);
    await api.refused('/jobs?state=done', {}, 400, 'VALIDATION_FAILED');
    await api.refused('/jobs?kind=bogus', {}, 400, 'VALIDATION_FAILED');
    await api.refused('/jobs?pageToken=x', {}, 400, 'VALIDATION_FAILED');
    await api.refused('/jobs?pageSize=1001', {}, 400, 'VALIDATION_FAILED');
    await api.post(`/jobs/${id}/cancel`);
  });
});

describe('jobs of a disk or target', () => {
  it('are found by its name and by its id, restores too', async () => {
    const api = await ApiWorld.start();
    const { id: disk } = await api.disk('d1');
    const target = (await api.post('/targets', { name: 't', kind: 'directory', path: 'b' })).body;
    const wait = { prefer: 'wait=20' };
    const backup = { name: 'b1', disk: 'd1', target: 't' };
    const backedUp = (await api.post('/backups', backup, wait)).body;
    const asked = { method: 'remap', disk: 'd2' };
    const restored = (await api.post('/backups/b1/restores', asked, wait)).body;
    const ids = async (query: string) => {
      const { items } = (await api.get(`/jobs?${query}`)).body as { items: { id: string }[] };
      return items.map((job) => job.id);
    };
    for (const ref of ['t', target.id]) {
      expect(await ids(`target=${ref}`)).toEqual([restored.id, backedUp.id]);
    }
    for (const ref of ['d1', disk]) expect(await ids(`disk=${ref}`)).toEqual([backedUp.id]);
    await api.ask('/disks/d1', { method: 'DELETE' });
    for (const ref of ['d1', disk]) expect(await ids(`disk=${ref}`)).toEqual([backedUp.id]);
    expect(await ids(`disk=${target.id}`)).toEqual([]);
  });
});

describe('a stop', () => {
  it('ends long polls at once, and bodies after their time', async () => {
    const api = await ApiWorld.start({ limits: { shutdownGraceMs: 50 } });
    const id = await slowJob(api);
    const polling = api.get(`/jobs/${id}`, { prefer: 'wait=600' });
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 100 });
    raw.send('x');
    while (api.services.disks.get('d1').users().length === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const closed = api.app.close();
    expect((await polling).body.endedAt).toBeNull();
    expect(await raw.answer()).toMatchObject({ status: 503, body: { code: 'SHUTTING_DOWN' } });
    await closed;
    await expect(api.get('/disks')).rejects.toThrow();
  });

  it('lets a request that is under way end', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const raw = new RawHttp(api.port);
    raw.head('PUT /v1/disks/d1/data', { 'content-length': 5 });
    raw.send('hel');
    while (api.services.disks.get('d1').users().length === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const closed = api.app.close();
    raw.send('lo');
    expect(await raw.answer()).toMatchObject({ status: 204 });
    await closed;
  });
});
