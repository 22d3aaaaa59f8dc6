import { describe, expect, it } from 'vitest';
import { type AnyJson, ApiWorld } from '../support/api-world.ts';

/** Two disks with four backups each on one target; the last of each has a label. */
async function withBackups(): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.disk('d1');
  await api.disk('d2');
  await api.post('/targets', { name: 't1', kind: 'directory', path: 'shelf' });
  for (const disk of ['d1', 'd2']) {
    for (const number of [1, 2, 3, 4]) {
      const labels = number === 4 ? { kind: 'last' } : {};
      const backup = { name: `${disk}-${number}`, disk, target: 't1', labels };
      const made = await api.post('/backups', backup, { prefer: 'wait=9' });
      expect(made.body.state).toBe('succeeded');
    }
  }
  return api;
}

async function names(api: ApiWorld): Promise<string[]> {
  const { items } = (await api.get('/backups')).body as { items: { name: string }[] };
  return items.map(({ name }) => name);
}

function told(body: AnyJson): string[] {
  const { decisions } = body as { decisions: Record<'action' | 'backup' | 'reason', string>[] };
  return decisions.map(({ action, backup, reason }) => `${action} ${backup}: ${reason}`);
}

describe('retention', () => {
  it('tells each decision with its reason in a dry run, and then does just that', async () => {
    const api = await withBackups();
    const request = { target: 't1', keepLast: 2 };
    const dry = await api.post('/retention?dryRun=true', request);
    expect(dry.status).toBe(200);
    expect(told(dry.body).sort()).toEqual([
      'delete d1-1: newer backups are what keepLast 2 keeps',
      'delete d1-2: newer backups are what keepLast 2 keeps',
      'delete d2-1: newer backups are what keepLast 2 keeps',
      'delete d2-2: newer backups are what keepLast 2 keeps',
      'keep d1-3: last 2 of 2',
      'keep d1-4: last 1 of 2',
      'keep d2-3: last 2 of 2',
      'keep d2-4: last 1 of 2',
    ]);
    expect(dry.body.decisions[0]).toMatchObject({ target: 't1', diskName: expect.any(String) });
    expect(await names(api)).toHaveLength(8);
    const done = await api.post('/retention', request, { prefer: 'wait=20' });
    expect(done.status).toBe(202);
    expect(done.body).toMatchObject({
      kind: 'retention',
      state: 'succeeded',
      result: { deletedBackups: 4, keptBackups: 4, left: [] },
    });
    expect(done.body.result.deleted).toContainEqual({
      backup: 'd1-1',
      reason: 'newer backups are what keepLast 2 keeps',
    });
    expect(await names(api)).toEqual(['d1-3', 'd1-4', 'd2-3', 'd2-4']);
    const again = await api.post('/retention', request, { prefer: 'wait=20' });
    expect(again.body.result).toMatchObject({ deletedBackups: 0, keptBackups: 4 });
  });

  it('is about one disk or label if asked for, and all backups of a day are one', async () => {
    const api = await withBackups();
    const ofDisk = await api.post('/retention?dryRun=true', { disk: 'd2', keepDaily: 7 });
    expect(ofDisk.body.decisions).toHaveLength(4);
    expect(told(ofDisk.body)[0]).toMatch(/^keep d2-4: newest of day \d{4}-\d\d-\d\d$/);
    const labelled = await api.post('/retention?dryRun=true', { label: 'kind=last', keepLast: 1 });
    expect(told(labelled.body).sort()).toEqual([
      'keep d1-4: last 1 of 1',
      'keep d2-4: last 1 of 1',
    ]);
    const none = await api.post('/retention?dryRun=true', { label: 'other', keepLast: 1 });
    expect(none.body).toEqual({ decisions: [] });
    const key = { 'idempotency-key': 'k1', prefer: 'wait=20' };
    const first = await api.post('/retention', { disk: 'd2', keepLast: 1 }, key);
    const second = await api.post('/retention', { disk: 'd2', keepLast: 1 }, key);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect(second.body).toEqual(first.body);
    expect(await names(api)).toEqual(['d1-1', 'd1-2', 'd1-3', 'd1-4', 'd2-4']);
  });

  it.each([
    [{}, 400, 'VALIDATION_FAILED'],
    [{ keepLast: 0 }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: -1 }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: '3' }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: 1, keepCenturies: 1 }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: 1, timeZone: 'Mars/Olympus' }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: 1, label: '=x' }, 400, 'VALIDATION_FAILED'],
    [{ keepLast: 1, target: 'none' }, 404, 'NOT_FOUND'],
    [{ keepLast: 1, disk: 'none' }, 404, 'NOT_FOUND'],
  ])('is refused with %j', async (json, status, code) => {
    const api = await ApiWorld.start();
    for (const query of ['', '?dryRun=true']) {
      await api.refused(`/retention${query}`, { method: 'POST', json }, status, code);
    }
  });
});
