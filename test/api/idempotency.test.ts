import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { ApiWorld } from '../support/api-world.ts';
import { holdWrites } from '../support/hold.ts';

const key = { 'idempotency-key': 'k-1' };
const DAY_MS = 24 * 60 * 60 * 1000;

describe('a POST of what exists', () => {
  it('answers 200 for the same parameters, in whatever form, else 409 with the id', async () => {
    const api = await ApiWorld.start();
    const first = await api.post('/disks', { name: 'd1', capacity: '1GiB' });
    expect(first.status).toBe(201);
    const second = await api.post('/disks', { name: 'd1', capacityBytes: 1024 ** 3 });
    expect(second.status).toBe(200);
    expect(second.body).toEqual(first.body);
    const other = await api.post('/disks', { name: 'd1', capacity: '2GiB' });
    expect(other.body).toMatchObject({ status: 409, code: 'NAME_TAKEN', id: first.body.id });
    const target = { name: 't', kind: 'directory', path: 'backups' };
    expect(await api.post('/targets', target)).toMatchObject({ status: 201 });
    expect(await api.post('/targets', target)).toMatchObject({ status: 200 });
    const pool = { name: 'p', files: [{ path: 'p', sizeBytes: 1 << 21 }] };
    expect(await api.post('/pools', pool)).toMatchObject({ status: 201 });
    expect(await api.post('/pools', pool)).toMatchObject({ status: 200 });
  });

  it('never passes an old copy or backup for a new one', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const { id } = await api.copyOf('d1', 'monday');
    const copy = await api.post('/disks/d1/copies', { name: 'monday' });
    expect(copy.body).toMatchObject({ status: 409, code: 'NAME_TAKEN', id });
    await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
    const backup = { name: 'b1', copy: 'monday', target: 't' };
    expect(await api.post('/backups', backup, { prefer: 'wait=9' })).toMatchObject({ status: 202 });
    expect((await api.post('/backups', backup)).body).toMatchObject({ code: 'NAME_TAKEN' });
  });
});

describe('an Idempotency-Key', () => {
  it('gives a repeat the first status, headers and body, byte for byte', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const first = await api.post('/disks/d1/copies', { name: 'monday' }, key);
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    await api.ask('/copies/monday', { method: 'PATCH', json: { name: 'tuesday' } });
    const second = await api.post('/disks/d1/copies', { name: 'monday' }, key);
    expect(second.status).toBe(201);
    expect(second.bytes).toEqual(first.bytes);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    for (const name of ['location', 'etag', 'content-type']) {
      expect(second.headers.get(name)).toBe(first.headers.get(name));
    }
    expect((await api.get('/copies')).body.items).toHaveLength(1);
  });

  it('belongs to one path', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.disk('d2');
    const first = await api.post('/disks/d1/copies', { name: 'a' }, key);
    const second = await api.post('/disks/d2/copies', { name: 'b' }, key);
    expect([first.status, second.status]).toEqual([201, 201]);
  });

  it('for another body or query is refused', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.post('/disks/d1/copies', { name: 'a' }, key);
    const other = { method: 'POST', json: { name: 'b' }, headers: key };
    await api.refused('/disks/d1/copies', other, 422, 'IDEMPOTENCY_KEY_REUSED');
    const restore = { method: 'POST', json: { method: 'remap', disk: 'n' }, headers: key };
    expect(await api.ask('/copies/a/restores', restore)).toMatchObject({ status: 201 });
    const path = '/copies/a/restores?dryRun=false';
    await api.refused(path, restore, 422, 'IDEMPOTENCY_KEY_REUSED');
  });

  it('of a refused request can be used again', async () => {
    const api = await ApiWorld.start();
    const post = { method: 'POST', json: { name: 'a' }, headers: key };
    await api.refused('/disks/d1/copies', post, 404, 'NOT_FOUND');
    await api.disk('d1');
    expect(await api.ask('/disks/d1/copies', post)).toMatchObject({ status: 201 });
  });

  it('in progress is refused, and free again afterwards', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put('/disks/d1/data', randomBytes(1000));
    await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
    const backup = { name: 'b1', disk: 'd1', target: 't', maxBytesPerSecond: 1 };
    const waiting = api.post('/backups', backup, { ...key, prefer: 'wait=60' });
    const listed = async () => (await api.get('/jobs')).body.items as { id: string }[];
    let jobs = await listed();
    while (jobs.length === 0) jobs = await listed();
    const post = { method: 'POST', json: backup, headers: key };
    const problem = await api.refused('/backups', post, 409, 'IDEMPOTENCY_IN_PROGRESS');
    expect(problem.retryable).toBe(true);
    const changed = { ...post, json: { ...backup, name: 'b2' } };
    await api.refused('/backups', changed, 422, 'IDEMPOTENCY_KEY_REUSED');
    await api.post(`/jobs/${jobs[0]!.id}/cancel`);
    const first = await waiting;
    expect(first.body).toMatchObject({ state: 'cancelled' });
    expect(first.headers.get('preference-applied')).toBe('wait=60');
    const second = await api.ask('/backups', post);
    expect(second.bytes).toEqual(first.bytes);
    expect((await api.get('/jobs')).body.items).toHaveLength(1);
  });

  it('works for an effect that leaves no object: the first answer comes again', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    expect(await api.post('/disks/d1/flush', undefined, key)).toMatchObject({ status: 204 });
    const again = await api.post('/disks/d1/flush', undefined, key);
    expect(again.status).toBe(204);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(again.bytes.length).toBe(0);
  });

  it('keeps the first answer even where nothing had to be made', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const wanted = { name: 'd1', capacityBytes: 64 * 1024 * 1024 };
    const first = await api.post('/disks', wanted, key);
    expect(first.status).toBe(200);
    await api.ask('/disks/d1', { method: 'DELETE' });
    const second = await api.post('/disks', wanted, key);
    expect(second.status).toBe(200);
    expect(second.bytes).toEqual(first.bytes);
  });

  it('of an upload covers all but the streamed body', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.put('/disks/d1/data', randomBytes(100_000));
    await api.copyOf('d1', 'monday');
    const image = (await api.get('/copies/monday/image')).bytes;
    const upload = (query: string, body: Buffer) =>
      api.ask(`/restores?${query}`, { method: 'POST', body, headers: key });
    const first = await upload('method=remap&disk=d2', image);
    expect(first.status).toBe(201);
    const second = await upload('method=remap&disk=d2', image);
    expect(second).toMatchObject({ status: 201, bytes: first.bytes });
    const other = await upload('method=remap&disk=d3', image);
    expect(other.body).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' });
  });

  it('is forgotten after a day', async () => {
    let laterMs = 0;
    const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + laterMs };
    const api = await ApiWorld.start({ clock });
    const wanted = { name: 'd1', capacityBytes: 512 };
    const first = await api.post('/disks', wanted, key);
    await api.ask('/disks/d1', { method: 'DELETE' });
    laterMs = DAY_MS - 60_000;
    expect((await api.post('/disks', wanted, key)).bytes).toEqual(first.bytes);
    laterMs = DAY_MS;
    const made = await api.post('/disks', wanted, key);
    expect(made.status).toBe(201);
    expect(made.headers.get('idempotency-replayed')).toBeNull();
    expect(made.body.id).not.toBe(first.body.id);
  });

  it('that is no key is refused', async () => {
    const api = await ApiWorld.start();
    for (const bad of ['x'.repeat(256), 'a\tb']) {
      const headers = { 'idempotency-key': bad };
      const post = { method: 'POST', json: { name: 'd1', capacityBytes: 512 }, headers };
      await api.refused('/disks', post, 400, 'VALIDATION_FAILED');
    }
    expect((await api.get('/disks')).body.items).toEqual([]);
  });

  it('is not recorded when the effect is not', async () => {
    const api = await ApiWorld.start();
    const { records } = api.made.services;
    records.failNextCommit(new Error('the disk of the database failed'));
    const post = { method: 'POST', json: { name: 'd1', capacityBytes: 512 }, headers: key };
    expect((await api.ask('/disks', post)).status).toBeGreaterThanOrEqual(500);
    expect(await records.rows('idempotency')).toEqual([]);
  });
});

describe('a change with If-Match', () => {
  it('is made only to the version that the client saw', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const etag = (await api.get('/disks/d1')).headers.get('etag')!;
    const patch = (labels: object, ifMatch: string) =>
      api.ask('/disks/d1', { method: 'PATCH', json: { labels }, headers: { 'if-match': ifMatch } });
    const first = await patch({ a: '1' }, etag);
    expect(first.status).toBe(200);
    expect(first.headers.get('etag')).not.toBe(etag);
    const second = await patch({ a: '2' }, etag);
    expect(second.body).toMatchObject({
      status: 412,
      code: 'PRECONDITION_FAILED',
      etag: first.headers.get('etag'),
    });
    expect((await api.get('/disks/d1')).body.labels).toEqual({ a: '1' });
    expect(await patch({}, '*')).toMatchObject({ status: 200 });
    const remove = { method: 'DELETE', headers: { 'if-match': etag } };
    await api.refused('/disks/d1', remove, 412, 'PRECONDITION_FAILED');
  });

  it('is made if one of several versions is current', async () => {
    const api = await ApiWorld.start();
    const { id } = await api.disk('d1');
    const current = (await api.get('/disks/d1')).headers.get('etag')!;
    const patch = (ifMatch: string) =>
      api.ask('/disks/d1', { method: 'PATCH', json: {}, headers: { 'if-match': ifMatch } });
    expect(await patch(`"${id}-77", "a,b"`)).toMatchObject({ status: 412 });
    expect(await patch(`W/${current}`)).toMatchObject({ status: 412 });
    const first = await patch(`"x" ,${current},"a,b"`);
    expect(first.status).toBe(200);
    const many = Array.from({ length: 20 }, (_, n) => `"${id}-${n + 100}"`);
    const next = first.headers.get('etag')!;
    expect(await patch([...many, next].join(', '))).toMatchObject({ status: 200 });
    const remove = { method: 'DELETE', headers: { 'if-match': '*' } };
    expect(await api.ask('/disks/d1', remove)).toMatchObject({ status: 204 });
  });

  it('lets one of many win', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const etag = (await api.get('/disks/d1')).headers.get('etag')!;
    const answers = await Promise.all(
      [1, 2, 3, 4, 5].map((n) =>
        api.ask('/disks/d1', {
          method: 'PATCH',
          json: { labels: { n: String(n) } },
          headers: { 'if-match': etag },
        }),
      ),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 412, 412, 412, 412]);
  });

  it('goes by what a client can set, not by data or users', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const before = (await api.get('/disks/d1')).headers.get('etag');
    const hold = holdWrites(api.services.disks.get('d1'));
    const put = api.put('/disks/d1/data', randomBytes(1000));
    await hold.reached;
    expect((await api.get('/disks/d1')).headers.get('etag')).toBe(before);
    hold.release();
    await put;
    expect((await api.get('/disks/d1')).headers.get('etag')).toBe(before);
  });

  it('that changes nothing leaves the version', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1', { labels: { a: '1', b: '2' } });
    await api.copyOf('d1', 'c1');
    await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
    await api.post('/schedules', { name: 's', cron: '30 3 * * *', disks: ['d1'], target: 't' });
    const { files } = (await api.get('/pools/default')).body;
    for (const [path, same, other] of [
      ['/disks/d1', { name: 'd1', labels: { b: '2', a: '1' } }, { labels: {} }],
      ['/disks/d1', { capacityBytes: 64 * 1024 * 1024 }, { capacityBytes: 1024 * 1024 }],
      ['/disks/d1/limits', { quotaBytes: null }, { quotaBytes: 1024 * 1024 }],
      ['/copies/c1', { name: 'c1', labels: {} }, { labels: { a: 'b' } }],
      ['/pools/default', { name: 'default', files }, { lowWaterPercent: 50 }],
      ['/targets/t', { name: 't', labels: {} }, { labels: { a: 'b' } }],
      ['/schedules/s', { cron: '30 3 * * *', disks: ['d1'] }, { cron: '30 4 * * *' }],
    ] as const) {
      const method = path.endsWith('limits') ? 'PUT' : 'PATCH';
      const before = (await api.get(path)).headers.get('etag')!;
      for (const json of [{}, same]) {
        const answer = await api.ask(path, { method, json });
        expect(answer, path).toMatchObject({ status: 200 });
        expect(answer.headers.get('etag'), path).toBe(before);
      }
      const changed = await api.ask(path, { method, json: other });
      expect(changed.headers.get('etag'), path).not.toBe(before);
    }
  });

  it('is not what work on a backup makes', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.post('/targets', { name: 't', kind: 'directory', path: 'b' });
    const wait = { prefer: 'wait=20' };
    await api.post('/backups', { name: 'b1', disk: 'd1', target: 't' }, wait);
    const before = await api.get('/backups/b1');
    const verified = await api.post('/backups/b1/verify', undefined, wait);
    expect(verified.body.state).toBe('succeeded');
    const after = await api.get('/backups/b1');
    expect(after.headers.get('etag')).toBe(before.headers.get('etag'));
  });
});
