import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

const BLOCK = 65536;

/** A disk with a block at each of these places. */
async function worldWith(blocks: readonly number[]): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.disk('d1', { capacityBytes: 100 * BLOCK + 512 });
  for (const block of blocks) {
    const length = block === 100 ? 512 : BLOCK;
    const put = await api.put(`/disks/d1/data?offset=${block * BLOCK}`, randomBytes(length));
    expect(put.status).toBe(204);
  }
  await api.copyOf('d1', 'monday');
  return api;
}

function linesOf(bytes: Buffer): unknown[] {
  const lines = bytes.toString().trimEnd().split('\n');
  return lines.map((line): unknown => JSON.parse(line));
}

describe('the copies of a disk', () => {
  it('are listed below it, and not those of others', async () => {
    const api = await worldWith([3]);
    await api.disk('d2', { capacityBytes: BLOCK });
    await api.copyOf('d2', 'tuesday');
    const { body } = await api.get('/disks/d1/copies');
    expect(body.items).toMatchObject([{ name: 'monday' }]);
    await api.refused('/disks/d3/copies', {}, 404, 'NOT_FOUND');
  });
});

describe('the correspondence table', () => {
  it('has the page size under the name of CSI, too', async () => {
    const api = await worldWith([3, 7]);
    const page = await api.get('/copies/monday/correspondence?maxResults=1');
    expect(page.body.items).toEqual([{ copyBlock: 0, sourceBlock: 3, length: 1 }]);
    const both = '/copies/monday/correspondence?maxResults=1&pageSize=1';
    await api.refused(both, {}, 400, 'VALIDATION_FAILED');
  });

  it('comes page by page or as lines with an end', async () => {
    const api = await worldWith([3, 4, 5, 17, 40, 41]);
    const runs = [
      { copyBlock: 0, sourceBlock: 3, length: 3 },
      { copyBlock: 3, sourceBlock: 17, length: 1 },
      { copyBlock: 4, sourceBlock: 40, length: 2 },
    ];
    const found: unknown[] = [];
    let token: string | null = '';
    for (let pages = 0; token !== null; pages += 1) {
      expect(pages).toBeLessThan(3);
      const next = token === '' ? '' : `&pageToken=${token}`;
      const page = await api.get(`/copies/monday/correspondence?pageSize=1${next}`);
      expect(page.body.items.length).toBe(1);
      found.push(...page.body.items);
      token = page.body.nextPageToken;
    }
    expect(found).toEqual(runs);
    const accept = { accept: 'application/x-ndjson' };
    const lines = await api.get('/copies/monday/correspondence', accept);
    expect(lines.headers.get('content-type')).toBe('application/x-ndjson');
    expect(linesOf(lines.bytes)).toEqual([...runs, { end: true }]);
  });
});

describe('allocated ranges', () => {
  it('of a disk come as byte ranges that end where it ends', async () => {
    const api = await worldWith([0, 1, 50, 100]);
    const answer = await api.get('/disks/d1/allocation');
    expect(answer.body).toEqual({
      blockSizeBytes: BLOCK,
      capacityBytes: 100 * BLOCK + 512,
      items: [
        { byteOffset: 0, sizeBytes: 2 * BLOCK },
        { byteOffset: 50 * BLOCK, sizeBytes: BLOCK },
        { byteOffset: 100 * BLOCK, sizeBytes: 512 },
      ],
      nextPageToken: null,
    });
    const physical = await api.get('/disks/d1/allocation?physical=true&maxResults=1');
    expect(physical.body.items).toMatchObject([{ byteOffset: 0 }]);
    expect(physical.body.items[0].physicalBlock).toBeGreaterThanOrEqual(0);
    expect(physical.body.nextPageToken).not.toBeNull();
  });

  it.each(['/disks/d1/allocation', '/copies/monday/allocation'])(
    'of %s begin at any offset, in pages or lines',
    async (path) => {
      const api = await worldWith([0, 1, 50, 51, 70]);
      const from = async (startingOffset: number) => {
        const answer = await api.get(`${path}?startingOffset=${startingOffset}`);
        return answer.body.items as unknown[];
      };
      expect(await from(0)).toHaveLength(3);
      expect(await from(BLOCK + 5)).toEqual([
        { byteOffset: BLOCK, sizeBytes: BLOCK },
        { byteOffset: 50 * BLOCK, sizeBytes: 2 * BLOCK },
        { byteOffset: 70 * BLOCK, sizeBytes: BLOCK },
      ]);
      expect(await from(51 * BLOCK)).toHaveLength(2);
      expect(await from(71 * BLOCK)).toEqual([]);
      const first = await api.get(`${path}?maxResults=2`);
      const second = await api.get(`${path}?pageToken=${first.body.nextPageToken}`);
      expect(second.body.items).toEqual([{ byteOffset: 70 * BLOCK, sizeBytes: BLOCK }]);
      const lines = await api.get(`${path}?startingOffset=${51 * BLOCK}`, {
        accept: 'application/json;q=0.1, application/x-ndjson',
      });
      expect(linesOf(lines.bytes)).toHaveLength(3);
      for (const accept of [
        'application/x-ndjson;q=0.5, application/json;q=1',
        'application/x-ndjson;q=0, */*',
        'application/x-ndjson;q=0.1, */*;q=0.2',
      ]) {
        const page = await api.get(path, { accept });
        expect(page.headers.get('content-type'), accept).toMatch(/^application\/json/);
      }
    },
  );

  it('refuse what makes no sense', async () => {
    const api = await worldWith([0]);
    const path = '/disks/d1/allocation';
    const beyond = `${path}?startingOffset=${101 * BLOCK}`;
    await api.refused(beyond, {}, 416, 'RANGE_NOT_SATISFIABLE');
    for (const query of [
      'startingOffset=0&pageToken=abc',
      'maxResults=1&pageSize=1',
      'pageToken=abc',
      'pageToken=Y29ycmVzcG9uZGVuY2U6MQ',
      'pageSize=0',
      'pageSize=10001',
      'physical=yes',
    ]) {
      await api.refused(`${path}?${query}`, {}, 400, 'VALIDATION_FAILED');
    }
  });
});

describe('what changed between two copies', () => {
  /** Copies monday and tuesday of a disk of 100 blocks and a sector. */
  async function changedWorld(): Promise<ApiWorld> {
    const api = await worldWith([0, 1, 2, 3, 50, 100]);
    const data = (block: number) => `/disks/d1/data?offset=${block * BLOCK}`;
    for (const block of [2, 3, 70]) await api.put(data(block), randomBytes(BLOCK));
    await api.put(data(100), randomBytes(512));
    await api.ask(`/disks/d1/data?offset=0&length=${2 * BLOCK}`, { method: 'DELETE' });
    await api.copyOf('d1', 'tuesday');
    return api;
  }
  const changes = [
    { byteOffset: 0, sizeBytes: 2 * BLOCK, kind: 'zero' },
    { byteOffset: 2 * BLOCK, sizeBytes: 2 * BLOCK, kind: 'data' },
    { byteOffset: 70 * BLOCK, sizeBytes: BLOCK, kind: 'data' },
    { byteOffset: 100 * BLOCK, sizeBytes: 512, kind: 'data' },
  ];
  const path = '/copies/tuesday/changes?since=monday';

  it('are data and zeros as byte ranges, either way round', async () => {
    const api = await changedWorld();
    expect((await api.get(path)).body).toEqual({
      blockSizeBytes: BLOCK,
      capacityBytes: 100 * BLOCK + 512,
      items: changes,
      nextPageToken: null,
    });
    const back = await api.get('/copies/monday/changes?since=tuesday');
    expect(back.body.items).toEqual([
      { byteOffset: 0, sizeBytes: 4 * BLOCK, kind: 'data' },
      { byteOffset: 70 * BLOCK, sizeBytes: BLOCK, kind: 'zero' },
      { byteOffset: 100 * BLOCK, sizeBytes: 512, kind: 'data' },
    ]);
    const none = await api.get('/copies/monday/changes?since=monday');
    expect(none.body.items).toEqual([]);
  });

  it('come page by page, from any offset on, or as lines with an end', async () => {
    const api = await changedWorld();
    const found: unknown[] = [];
    let token: string | null = '';
    for (let pages = 0; token !== null; pages += 1) {
      expect(pages).toBeLessThan(changes.length);
      const next = token === '' ? '' : `&pageToken=${token}`;
      const page = await api.get(`${path}&maxResults=1${next}`);
      found.push(...page.body.items);
      token = page.body.nextPageToken;
    }
    expect(found).toEqual(changes);
    const from = await api.get(`${path}&startingOffset=${3 * BLOCK + 1}`);
    expect(from.body.items).toEqual([
      { byteOffset: 3 * BLOCK, sizeBytes: BLOCK, kind: 'data' },
      ...changes.slice(2),
    ]);
    const accept = { accept: 'application/x-ndjson' };
    const lines = await api.get(`${path}&startingOffset=${4 * BLOCK}`, accept);
    expect(lines.headers.get('content-type')).toBe('application/x-ndjson');
    expect(linesOf(lines.bytes)).toEqual([...changes.slice(2), { end: true }]);
  });

  it('end where the newer one ends, and have zeros where the older one did', async () => {
    const api = await changedWorld();
    await api.ask('/disks/d1', {
      method: 'PATCH',
      json: { capacityBytes: 60 * BLOCK, discard: true },
    });
    await api.copyOf('d1', 'small');
    const small = await api.get('/copies/small/changes?since=tuesday');
    expect(small.body).toMatchObject({ capacityBytes: 60 * BLOCK, items: [] });
    await api.ask('/disks/d1', { method: 'PATCH', json: { capacityBytes: 80 * BLOCK } });
    await api.copyOf('d1', 'grown');
    const zeros = [{ byteOffset: 60 * BLOCK, sizeBytes: 20 * BLOCK, kind: 'zero' }];
    expect((await api.get('/copies/grown/changes?since=small')).body.items).toEqual(zeros);
    const since = await api.get('/copies/grown/changes?since=tuesday');
    expect(since.body.items).toEqual([{ byteOffset: 70 * BLOCK, sizeBytes: BLOCK, kind: 'zero' }]);
  });

  it('are there for a disk that was made from a copy', async () => {
    const api = await changedWorld();
    await api.post('/copies/monday/restores', { method: 'remap', disk: 'd2' });
    await api.put(`/disks/d2/data?offset=${5 * BLOCK}`, randomBytes(BLOCK));
    await api.copyOf('d2', 'other');
    const { body } = await api.get('/copies/other/changes?since=monday');
    expect(body.items).toEqual([{ byteOffset: 5 * BLOCK, sizeBytes: BLOCK, kind: 'data' }]);
  });

  it('are refused for what is not there, strangers and what makes no sense', async () => {
    const api = await changedWorld();
    await api.refused('/copies/wednesday/changes?since=monday', {}, 404, 'NOT_FOUND');
    await api.refused('/copies/monday/changes?since=wednesday', {}, 404, 'NOT_FOUND');
    await api.disk('d2', { capacityBytes: BLOCK });
    await api.copyOf('d2', 'other');
    await api.refused('/copies/other/changes?since=monday', {}, 409, 'COPIES_UNRELATED');
    const lines = { accept: 'application/x-ndjson' };
    const unrelated = await api.get('/copies/other/changes?since=monday', lines);
    expect(unrelated.status).toBe(409);
    await api.refused('/copies/monday/changes', {}, 400, 'VALIDATION_FAILED');
    await api.refused(`${path}&since=monday`, {}, 400, 'VALIDATION_FAILED');
    for (const query of ['since=', 'pageToken=abc', 'maxResults=0', 'physical=true']) {
      await api.refused(`${path}&${query}`, {}, 400, 'VALIDATION_FAILED');
    }
    const beyond = `${path}&startingOffset=${101 * BLOCK}`;
    await api.refused(beyond, {}, 416, 'RANGE_NOT_SATISFIABLE');
  });
});
