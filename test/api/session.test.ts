import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

const KIB = 1024;

describe('the worked session', () => {
  it('goes from a disk to copies, backups and restores, as printed', async () => {
    const api = await ApiWorld.start();
    const disk = await api.post('/disks', { name: 'd1', capacityBytes: 1099511627776 });
    expect(disk.status).toBe(201);
    expect(disk.body).toMatchObject({
      name: 'd1',
      pool: 'default',
      capacityBytes: 1099511627776,
      blockSizeBytes: 65536,
      usedBytes: 0,
      state: 'ready',
    });

    const bytes = Buffer.concat([randomBytes(200 * KIB), Buffer.alloc(312 * KIB)]);
    const put = await api.put('/disks/d1/data?offset=0', bytes);
    expect(put).toMatchObject({ status: 204, bytes: Buffer.alloc(0) });
    const part = await api.get('/disks/d1/data?offset=4096&length=512');
    expect(part.status).toBe(200);
    expect(part.bytes).toEqual(bytes.subarray(4096, 4608));
    const ranged = await api.get('/disks/d1/data', { range: 'bytes=4096-4607' });
    expect(ranged.status).toBe(206);
    expect(ranged.bytes).toEqual(part.bytes);
    expect(ranged.headers.get('content-range')).toBe('bytes 4096-4607/1099511627776');

    const copy = await api.post('/disks/d1/copies', { name: 'monday' });
    expect(copy.status).toBe(201);
    expect(copy.body).toMatchObject({
      name: 'monday',
      disk: 'd1',
      layout: 'compact',
      placement: 'shared',
      usedBlocks: 4,
      capacityBytes: 4 * 65536,
      sourceCapacityBytes: 1099511627776,
    });
    expect(copy.body.imageBytes).toBeGreaterThan(4 * 65536);
    expect(copy.body.haltMicroseconds).toBeGreaterThanOrEqual(0);

    const table = await api.get('/copies/monday/correspondence');
    expect(table.body).toEqual({
      items: [{ copyBlock: 0, sourceBlock: 0, length: 4 }],
      nextPageToken: null,
    });
    const head = await api.get('/copies/monday/data?view=full&offset=0&length=4096');
    expect(head.bytes).toEqual(bytes.subarray(0, 4096));
    const image = await api.get('/copies/monday/image');
    expect(image.bytes.length).toBe(copy.body.imageBytes);

    const remap = await api.post('/copies/monday/restores', { method: 'remap', disk: 'd0' });
    expect(remap.status).toBe(201);
    expect(remap.body).toMatchObject({ name: 'd0', capacityBytes: 1099511627776 });

    const target = { name: 'shelf', kind: 'directory', path: 'backups' };
    expect(await api.post('/targets', target)).toMatchObject({ status: 201 });
    const backup = await api.post('/backups', { name: 'b1', copy: 'monday', target: 'shelf' });
    expect(backup.status).toBe(202);
    const where = backup.headers.get('location')!;
    expect(where).toBe(`/v1/jobs/${backup.body.id}`);
    const job = await api.get(where.slice(3), { prefer: 'wait=30' });
    expect(job.body).toMatchObject({ state: 'succeeded', result: { backup: 'b1' } });

    expect(await api.post('/backups/b1/verify')).toMatchObject({ status: 202 });
    const again = { method: 'remap', disk: 'd2' };
    const restored = await api.post('/backups/b1/restores', again, { prefer: 'wait=30' });
    expect(restored.status).toBe(202);
    expect(restored.body).toMatchObject({ state: 'succeeded' });
    const d2 = await api.get(`/disks/d2/data?length=${bytes.length}`);
    expect(d2.bytes).toEqual(bytes);

    const back = { method: 'write-back', disk: 'd1' };
    expect(await api.post('/backups/b1/restores', back, { prefer: 'wait=9' })).toMatchObject({
      status: 202,
    });
    const upload = await api.ask('/restores?method=remap&disk=d3', {
      method: 'POST',
      body: image.bytes,
    });
    expect(upload.status).toBe(201);
    expect(upload.headers.get('location')).toBe('/v1/disks/d3');
    expect(upload.body).toMatchObject({ state: 'succeeded', result: { disk: 'd3' } });
    const check = await api.get('/check');
    expect(check.body).toEqual({ ok: true, findings: [] });
  });
});
