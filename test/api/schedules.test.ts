import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

/** Disks d1 and d2, target t1. */
async function ready(): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.disk('d1');
  await api.disk('d2');
  await api.post('/targets', { name: 't1', kind: 'directory', path: 'shelf' });
  return api;
}

const nightly = { name: 'nightly', cron: '30 3 * * *', disks: ['d1'], target: 't1' };

async function patch(api: ApiWorld, path: string, json: unknown, headers = {}) {
  return api.ask(path, { method: 'PATCH', json, headers });
}

describe('schedules', () => {
  it('are made with defaults, shown with their next runs, listed and filtered', async () => {
    const api = await ready();
    const made = await api.post('/schedules', { ...nightly, labels: { team: 'a' } });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/schedules/nightly');
    const disk = (await api.get('/disks/d1')).body;
    expect(made.body).toMatchObject({
      name: 'nightly',
      cron: '30 3 * * *',
      timeZone: 'UTC',
      disks: ['d1'],
      diskIds: [disk.id],
      isGroup: false,
      target: 't1',
      level: 'full',
      onMissingBase: 'full',
      retention: null,
      jitterSeconds: 0,
      catchUp: 'run-once',
      overlap: 'skip',
      enabled: true,
      lastRun: null,
      lastSuccessAt: null,
      lastSkipped: null,
      queuedRun: null,
    });
    const { nextRuns } = made.body as { nextRuns: string[] };
    expect(nextRuns).toHaveLength(5);
    for (const at of nextRuns) expect(at).toMatch(/T03:30:00\.000Z$/);
    expect(Date.parse(nextRuns[0]!)).toBeGreaterThan(Date.now());
    expect(Date.parse(nextRuns[4]!) - Date.parse(nextRuns[0]!)).toBe(4 * 86_400_000);
    const shown = await api.get(`/schedules/${made.body.id}`);
    expect(shown.body).toEqual(made.body);
    expect(shown.headers.get('etag')).toBe(made.headers.get('etag'));
    for (const query of ['', 'disk=d1', 'target=t1', 'label=team%3Da']) {
      expect((await api.get(`/schedules?${query}`)).body.items).toEqual([made.body]);
    }
    for (const query of ['disk=d2', 'target=t2', 'label=other']) {
      expect((await api.get(`/schedules?${query}`)).body.items).toEqual([]);
    }
  });

  it('are the same if made again as they were, and refused with other parameters', async () => {
    const api = await ready();
    const first = await api.post('/schedules', nightly);
    const same = { ...nightly, timeZone: 'UTC', enabled: true, retention: null };
    const again = await api.post('/schedules', same);
    expect(again.status).toBe(200);
    expect(again.body).toEqual(first.body);
    const other = { method: 'POST', json: { ...nightly, cron: '31 3 * * *' } };
    const refused = await api.refused('/schedules', other, 409, 'NAME_TAKEN');
    expect(refused.id).toBe(first.body.id);
    const key = { 'idempotency-key': 'k' };
    const keyed = await api.post('/schedules', { ...nightly, name: 'keyed' }, key);
    const replayed = await api.post('/schedules', { ...nightly, name: 'keyed' }, key);
    expect(replayed.headers.get('idempotency-replayed')).toBe('true');
    expect([replayed.status, replayed.body]).toEqual([201, keyed.body]);
  });

  it('are changed with If-Match, and deleted after a dry run', async () => {
    const api = await ready();
    const made = await api.post('/schedules', nightly);
    const tag = made.headers.get('etag')!;
    const change = {
      cron: '@hourly',
      timeZone: 'Europe/Berlin',
      group: ['d2', 'd1'],
      retention: { keepLast: 3, keepDaily: 7 },
      jitterSeconds: 60,
      overlap: 'queue',
      catchUp: 'skip',
      level: 'incremental',
      maxBytesPerSecond: 1000,
    };
    const changed = await patch(api, '/schedules/nightly', change, { 'if-match': tag });
    expect(changed.body).toMatchObject({
      ...{ cron: '@hourly', timeZone: 'Europe/Berlin', disks: ['d2', 'd1'], isGroup: true },
      ...{ retention: change.retention, jitterSeconds: 60, overlap: 'queue', catchUp: 'skip' },
      ...{ level: 'incremental', maxBytesPerSecond: 1000, enabled: true },
    });
    const old = { method: 'PATCH', json: {}, headers: { 'if-match': tag } };
    await api.refused('/schedules/nightly', old, 412, 'PRECONDITION_FAILED');
    const off = await patch(api, '/schedules/nightly', { enabled: false, retention: null });
    expect(off.body).toMatchObject({ enabled: false, nextRuns: [], retention: null });
    const name = { method: 'PATCH', json: { name: 'weekly' } };
    await api.refused('/schedules/nightly', name, 400, 'VALIDATION_FAILED');
    const dry = await api.ask('/schedules/nightly?dryRun=true', { method: 'DELETE' });
    expect(dry.body).toMatchObject({ wouldFreeBytes: 0, affects: [{ name: 'nightly' }] });
    expect((await api.ask('/schedules/nightly', { method: 'DELETE' })).status).toBe(204);
    await api.refused('/schedules/nightly', { method: 'DELETE' }, 404, 'NOT_FOUND');
    await api.refused('/schedules/nightly', {}, 404, 'NOT_FOUND');
    await api.refused('/schedules/nightly', { method: 'PATCH', json: {} }, 404, 'NOT_FOUND');
  });

  it.each([
    [{ cron: 'soon' }, 400, 'VALIDATION_FAILED'],
    [{ cron: '0 0 31 2 *' }, 400, 'VALIDATION_FAILED'],
    [{ cron: '2030-01-01T00:00:00' }, 400, 'VALIDATION_FAILED'],
    [{ timeZone: 'Mars/Olympus' }, 400, 'VALIDATION_FAILED'],
    [{ disks: [] }, 400, 'VALIDATION_FAILED'],
    [{ disks: ['d1', 'd1'] }, 400, 'VALIDATION_FAILED'],
    [{ group: ['d1'] }, 400, 'VALIDATION_FAILED'],
    [{ disks: undefined }, 400, 'VALIDATION_FAILED'],
    [{ disks: ['none'] }, 404, 'NOT_FOUND'],
    [{ target: 'none' }, 404, 'NOT_FOUND'],
    [{ retention: {} }, 400, 'VALIDATION_FAILED'],
    [{ retention: { keepLast: 0 } }, 400, 'VALIDATION_FAILED'],
    [{ retention: { keepAll: 1 } }, 400, 'VALIDATION_FAILED'],
    [{ jitterSeconds: -1 }, 400, 'VALIDATION_FAILED'],
    [{ catchUp: 'all' }, 400, 'VALIDATION_FAILED'],
    [{ overlap: 'wait' }, 400, 'VALIDATION_FAILED'],
    [{ name: 'X' }, 400, 'NAME_INVALID'],
    [{ name: 'n'.repeat(47) }, 400, 'NAME_INVALID'],
    [{ every: 'day' }, 400, 'VALIDATION_FAILED'],
  ])('are refused with %j', async (wrong, status, code) => {
    const api = await ready();
    const json = { ...nightly, ...wrong };
    await api.refused('/schedules', { method: 'POST', json }, status, code);
    expect((await api.get('/schedules')).body.items).toEqual([]);
    const { name, ...changes } = wrong as { name?: string };
    if (name !== undefined || 'disks' in changes || 'every' in changes) return;
    await api.post('/schedules', nightly);
    const change = {
      method: 'PATCH',
      json: 'group' in changes ? { ...changes, disks: ['d1'] } : changes,
    };
    await api.refused('/schedules/nightly', change, status, code);
  });

  it('are run by hand, enabled or not; the run tells what became of each disk', async () => {
    const api = await ready();
    await api.post('/schedules', { ...nightly, disks: ['d1', 'd2'], enabled: false });
    const key = { 'idempotency-key': 'k', prefer: 'wait=20' };
    const run = await api.post('/schedules/nightly/run', undefined, key);
    expect(run.status).toBe(202);
    expect(run.body).toMatchObject({
      kind: 'schedule',
      state: 'succeeded',
      subject: { schedule: 'nightly' },
      result: {
        scheduledAt: null,
        backups: [
          { disk: 'd1', state: 'succeeded' },
          { disk: 'd2', state: 'succeeded' },
        ],
      },
    });
    const again = await api.post('/schedules/nightly/run', undefined, key);
    expect(again.body.id).toBe(run.body.id);
    const list = await api.get('/backups?label=schedule%3Dnightly');
    const { items } = list.body as { items: { name: string }[] };
    expect(items.map(({ name }) => name.replace(/\d{8}-\d{6}m/, 'T'))).toEqual([
      'nightly-T-d1',
      'nightly-T-d2',
    ]);
    const shown = (await api.get('/schedules/nightly')).body;
    expect(shown.lastRun).toMatchObject({
      job: run.body.id,
      state: 'succeeded',
      scheduledAt: null,
      problem: null,
    });
    expect(shown.lastSuccessAt).toBe(shown.lastRun.endedAt);
    const metrics = (await api.get('//metrics')).bytes.toString();
    const seconds = Date.parse(shown.lastSuccessAt) / 1000;
    expect(metrics).toContain(
      `spindle_schedule_last_success_timestamp_seconds{schedule="nightly"} ${seconds}`,
    );
    await api.refused('/schedules/none/run', { method: 'POST' }, 404, 'NOT_FOUND');
  });

  it('remember why a run failed', async () => {
    const api = await ready();
    await api.post('/schedules', nightly);
    await api.ask('/disks/d1', { method: 'DELETE' });
    const run = await api.post('/schedules/nightly/run', undefined, { prefer: 'wait=20' });
    expect(run.body).toMatchObject({ state: 'failed', problem: { code: 'NOT_FOUND' } });
    const shown = (await api.get('/schedules/nightly')).body;
    expect(shown).toMatchObject({
      disks: ['d1'],
      lastRun: { state: 'failed', problem: { code: 'NOT_FOUND' } },
      lastSuccessAt: null,
    });
    expect(shown.nextRuns).toHaveLength(5);
  });
});
