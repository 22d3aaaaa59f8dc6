import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type AnyJson, ApiWorld } from '../support/api-world.ts';

const BLOCK = 65536;
const MIB = 1024 * 1024;

/** A pool `other`, and a disk with blocks at 2 … 5 and 9. */
async function world(): Promise<{ api: ApiWorld; data: Buffer }> {
  const api = await ApiWorld.start();
  const files = [{ path: 'other.dat', sizeBytes: 8 * MIB }];
  const made = await api.post('/pools', { name: 'other', files, preallocate: false });
  expect(made.status).toBe(201);
  await api.disk('d1', { capacityBytes: 100 * BLOCK });
  const data = randomBytes(5 * BLOCK);
  await api.put(`/disks/d1/data?offset=${2 * BLOCK}`, data.subarray(0, 4 * BLOCK));
  await api.put(`/disks/d1/data?offset=${9 * BLOCK}`, data.subarray(4 * BLOCK));
  return { api, data };
}

const dedicated = { name: 'monday', placement: 'dedicated', pool: 'other' };

async function ended(api: ApiWorld, job: string): Promise<AnyJson> {
  const answer = await api.get(`/jobs/${job}`, { prefer: 'wait=20' });
  expect(answer.status).toBe(200);
  return answer.body;
}

describe('a dedicated copy', () => {
  it('is there at once, is filled by a job, and then has blocks of its own', async () => {
    const { api, data } = await world();
    const made = await api.post('/disks/d1/copies', dedicated);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({
      placement: 'dedicated',
      pool: 'other',
      state: 'ready',
      usedBlocks: 5,
      preserve: 'redirect',
      onPreserveError: 'fail-write',
      problem: null,
    });
    const job = await ended(api, made.body.job);
    expect(job).toMatchObject({
      kind: 'copy-data',
      state: 'succeeded',
      subject: { copy: 'monday', disk: 'd1' },
      result: { copy: 'monday', usedBlocks: 5, physicalRuns: 1 },
    });
    const { body: copy } = await api.get('/copies/monday');
    expect(copy).toMatchObject({ owedBlocks: 0, job: null, exclusiveBytes: 5 * BLOCK });
    expect((await api.get('/copies/monday/data')).bytes.equals(data)).toBe(true);
    const metrics = (await api.get('//metrics')).bytes.toString();
    expect(metrics).toMatch(/^spindle_copy_data_blocks_total 5$/m);
    expect(metrics).toMatch(/^spindle_copy_data_runs_total [12]$/m);
    await api.ask('/disks/d1', { method: 'DELETE' });
    expect((await api.get('/copies/monday/data')).bytes.equals(data)).toBe(true);
  });

  it('tells which blocks are owed, page by page or as lines', async () => {
    const { api } = await world();
    const slow = { ...dedicated, maxBytesPerSecond: 1 };
    const { body } = await api.post('/disks/d1/copies', slow);
    await api.post(`/jobs/${body.job}/pause`);
    const page = await api.get('/copies/monday/data-blocks?pageSize=1');
    expect(page.body.items).toMatchObject([{ copyBlock: 0, sourceBlock: 2, length: 4 }]);
    const next = `pageToken=${page.body.nextPageToken}`;
    const rest = await api.get(`/copies/monday/data-blocks?${next}`);
    expect(rest.body.items).toMatchObject([{ copyBlock: 4, sourceBlock: 9, length: 1 }]);
    expect(rest.body.nextPageToken).toBe(null);
    const lines = await api.get('/copies/monday/data-blocks', { accept: 'application/x-ndjson' });
    expect(lines.bytes.toString().trimEnd().split('\n').at(-1)).toBe('{"end":true}');
    await api.refused('/copies/monday/data-blocks?pageToken=x', {}, 400, 'VALIDATION_FAILED');
    await api.refused('/copies/none/data-blocks', {}, 404, 'NOT_FOUND');
    await api.copyOf('d1', 'shared');
    const shared = await api.get('/copies/shared/data-blocks');
    expect(shared.body.items).toEqual([
      { copyBlock: 0, sourceBlock: 2, length: 4, state: 'shared' },
      { copyBlock: 4, sourceBlock: 9, length: 1, state: 'shared' },
    ]);
  });

  it('is filled again after its job was cancelled', async () => {
    const { api } = await world();
    const { body } = await api.post('/disks/d1/copies', { ...dedicated, maxBytesPerSecond: 1 });
    await api.post(`/jobs/${body.job}/pause`);
    await api.post(`/jobs/${body.job}/cancel`);
    expect((await ended(api, body.job)).state).toBe('cancelled');
    const owed = (await api.get('/copies/monday')).body.owedBlocks;
    if (owed > 0) {
      const again = await api.post('/copies/monday/data-blocks');
      expect([again.status, again.body.kind]).toEqual([202, 'copy-data']);
      await api.ask(`/jobs/${again.body.id}`, {
        method: 'PATCH',
        json: { maxBytesPerSecond: null },
      });
      expect((await ended(api, again.body.id)).state).toBe('succeeded');
    }
    const post = { method: 'POST' };
    await api.refused('/copies/monday/data-blocks', post, 409, 'JOB_STATE');
    await api.refused('/copies/none/data-blocks', post, 404, 'NOT_FOUND');
  });

  it('takes its job along when it is deleted', async () => {
    const { api } = await world();
    const { body } = await api.post('/disks/d1/copies', { ...dedicated, maxBytesPerSecond: 1 });
    await api.post(`/jobs/${body.job}/pause`);
    expect((await api.ask('/copies/monday', { method: 'DELETE' })).status).toBe(204);
    expect((await ended(api, body.job)).state).toBe('cancelled');
    await api.refused('/copies/monday', {}, 404, 'NOT_FOUND');
  });

  it('is refused where its blocks cannot go, and without room, before anything', async () => {
    const { api } = await world();
    const files = [{ path: 'wide.dat', sizeBytes: 8 * MIB }];
    await api.post('/pools', { name: 'wide', files, blockSizeBytes: MIB, preallocate: false });
    const tiny = [{ path: 'tiny.dat', sizeBytes: MIB + 4 * BLOCK }];
    await api.post('/pools', { name: 'tiny', files: tiny, preallocate: false });
    const url = '/disks/d1/copies';
    const into = (pool: string) => ({ method: 'POST', json: { ...dedicated, pool } });
    await api.refused(url, into('wide'), 409, 'POOL_MISMATCH');
    await api.refused(url, into('none'), 404, 'NOT_FOUND');
    if ((await api.get('/pools/tiny')).body.capacityBytes < 5 * BLOCK) {
      await api.refused(url, into('tiny'), 507, 'POOL_FULL');
    }
    for (const more of [{ pool: 'other' }, { preserve: 'redirect' }, { maxBytesPerSecond: 5 }]) {
      const json = { name: 'monday', ...more };
      await api.refused(url, { method: 'POST', json }, 400, 'VALIDATION_FAILED');
    }
    expect((await api.get('/copies')).body.items).toEqual([]);
    expect((await api.post(url, dedicated)).status).toBe(201);
  });
});
