/** Cartridges of targets on tape, over a virtual library. */
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

const MIB = 1024 * 1024;

async function start(): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  const target = { name: 'vault', kind: 'virtual-tape', path: 'vault', set: 'nightly' };
  const made = await api.post('/targets', target);
  expect(made.body).toMatchObject({ kind: 'virtual-tape', set: 'nightly' });
  return api;
}

const post = (json?: unknown) => ({ method: 'POST', ...(json === undefined ? {} : { json }) });

describe('targets on tape', () => {
  it('are made once, with a set of their own or the name for it', async () => {
    const api = await start();
    const target = { name: 'vault', kind: 'virtual-tape', path: 'vault', set: 'nightly' };
    const again = await api.post('/targets', target);
    expect(again.status).toBe(200);
    await api.refused('/targets', post({ ...target, set: 'weekly' }), 409, 'NAME_TAKEN');
    const named = await api.post('/targets', { name: 'v2', kind: 'virtual-tape', path: 'v2' });
    expect(named.body.set).toBe('v2');
    const shelf = await api.post('/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
    expect(shelf.body.set).toBeNull();
  });

  it('of kind tape are refused for a device that the operator did not name', async () => {
    const api = await ApiWorld.start();
    const target = { name: 'lto', kind: 'tape', path: '/dev/nst0' };
    await api.refused('/targets', post(target), 400, 'PATH_NOT_ALLOWED');
  });

  it('have memory between source and drive, of a size that can be asked for', async () => {
    const api = await start();
    const tape = { kind: 'virtual-tape', path: 'v2' };
    expect((await api.get('/targets/vault')).body.bufferBytes).toBe(16 * MIB);
    const made = await api.post('/targets', { name: 'v2', ...tape, bufferBytes: 64 * MIB });
    expect(made).toMatchObject({ status: 201, body: { bufferBytes: 64 * MIB } });
    const json = { bufferBytes: 8 * MIB };
    const changed = await api.ask('/targets/v2', { method: 'PATCH', json });
    expect(changed).toMatchObject({ status: 200, body: { bufferBytes: 8 * MIB, version: 2 } });
    const shelf = { name: 'shelf', kind: 'directory', path: 'shelf' };
    for (const bufferBytes of [0, MIB, 5 * MIB, 2048 * MIB]) {
      const wrong = post({ name: 'v3', ...tape, bufferBytes });
      await api.refused('/targets', wrong, 400, 'VALIDATION_FAILED');
    }
    await api.refused('/targets', post({ ...shelf, ...json }), 400, 'VALIDATION_FAILED');
    expect((await api.post('/targets', shelf)).body.bufferBytes).toBeNull();
    await api.refused('/targets/shelf', { method: 'PATCH', json }, 400, 'VALIDATION_FAILED');
  });

  it('are in the metrics, each with its drive', async () => {
    const api = await start();
    await api.post('/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
    const text = (await api.get('//metrics')).bytes.toString();
    for (const figure of ['written_bytes', 'stalls', 'stalled_seconds']) {
      expect(text).toContain(`spindle_tape_${figure}_total{target="vault"} 0`);
    }
    for (const figure of ['buffer_bytes', 'buffered_bytes', 'waiting_for_medium']) {
      expect(text).toContain(`spindle_tape_${figure}{target="vault"} 0`);
    }
    expect(text).not.toContain('target="shelf"');
  });

  it('only have cartridges', async () => {
    const api = await ApiWorld.start();
    await api.post('/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
    await api.refused('/targets/shelf/media', {}, 400, 'VALIDATION_FAILED');
    await api.refused('/targets/nothing/media', {}, 404, 'NOT_FOUND');
    await api.refused('/targets/shelf/unload', post(), 400, 'VALIDATION_FAILED');
  });
});

describe('cartridges', () => {
  it('are added, listed page by page, and shown by any of their names', async () => {
    const api = await start();
    expect((await api.get('/targets/vault/media')).body.items).toEqual([]);
    const made = await api.post('/targets/vault/media', { cartridge: 'T1', sizeBytes: 8 * MIB });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/targets/vault/media/T1');
    expect(made.body).toMatchObject({
      id: null,
      state: 'unlabelled',
      place: 'slot',
      sizeBytes: 8 * MIB,
    });
    await api.refused('/targets/vault/media', post({ cartridge: 'T1' }), 409, 'NAME_TAKEN');
    await api.refused(
      '/targets/vault/media',
      post({ cartridge: '../x' }),
      400,
      'VALIDATION_FAILED',
    );
    await api.post('/targets/vault/media', { cartridge: 'T2' });
    await api.post('/targets/vault/load', { medium: 'T2' });
    const label = (await api.post('/targets/vault/label', {})).body;
    for (const ref of ['T2', 'nightly-1', label.id]) {
      expect((await api.get(`/targets/vault/media/${ref}`)).body).toEqual(label);
    }
    await api.refused('/targets/vault/media/T3', {}, 404, 'NOT_FOUND');
    const first = (await api.get('/targets/vault/media?pageSize=1')).body;
    expect(first.items).toEqual([label]);
    const next = `/targets/vault/media?pageSize=1&pageToken=${first.nextPageToken}`;
    const second = (await api.get(next)).body;
    expect(second).toMatchObject({ items: [{ cartridge: 'T1' }], nextPageToken: null });
  });

  it('go into the drive, back to a slot, and out of the library', async () => {
    const api = await start();
    await api.refused('/targets/vault/unload', post(), 409, 'MEDIUM_ABSENT');
    await api.refused('/targets/vault/load', post({ medium: 'T1' }), 404, 'NOT_FOUND');
    await api.refused('/targets/vault/load', post({}), 400, 'VALIDATION_FAILED');
    await api.post('/targets/vault/media', { cartridge: 'T1' });
    const loaded = await api.post('/targets/vault/load', { medium: 'T1' });
    expect(loaded).toMatchObject({ status: 200, body: { place: 'drive' } });
    expect((await api.post('/targets/vault/unload')).status).toBe(204);
    expect((await api.get('/targets/vault/media/T1')).body.place).toBe('slot');
    await api.post('/targets/vault/load', { medium: 'T1' });
    expect((await api.post('/targets/vault/eject')).status).toBe(204);
    expect((await api.get('/targets/vault/media/T1')).body.place).toBe('shelf');
    await api.refused('/targets/vault/eject', post(), 409, 'MEDIUM_ABSENT');
  });

  it('are labelled, and overwritten only if that is allowed or their label is typed', async () => {
    const api = await start();
    await api.refused('/targets/vault/label', post({}), 409, 'MEDIUM_ABSENT');
    await api.post('/targets/vault/media', { cartridge: 'T1' });
    await api.post('/targets/vault/load', { medium: 'T1' });
    const key = { 'idempotency-key': 'label-1' };
    const expiresAt = '2999-01-01T00:00:00.000Z';
    const made = await api.post('/targets/vault/label', { label: 'mon', expiresAt }, key);
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe('/v1/targets/vault/media/mon');
    const facts = { label: 'mon', set: 'nightly', number: 1, state: 'appendable', expiresAt };
    expect(made.body).toMatchObject({ ...facts, dataBytes: 0, backups: [], place: 'drive' });
    const replay = await api.post('/targets/vault/label', { label: 'mon', expiresAt }, key);
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    expect(replay.body).toEqual(made.body);

    const kept = await api.refused('/targets/vault/label', post({}), 409, 'MEDIUM_UNEXPIRED');
    expect(kept).toMatchObject({ expiresAt });
    expect(kept.next).toContain('force: "mon"');
    expect(made.body).toMatchObject({ canBeLabelled: false, problem: null });
    expect(made.body.keptBecause).toBe(`expires at ${expiresAt}`);
    const past = post({ force: 'mon', expiresAt: '2001-01-01T00:00:00.000Z' });
    await api.refused('/targets/vault/label', past, 400, 'VALIDATION_FAILED');
    const wrong = post({ force: 'tue' });
    await api.refused('/targets/vault/label', wrong, 409, 'MEDIUM_UNEXPIRED');
    expect((await api.get('/targets/vault/media/mon')).body).toEqual(made.body);
    const forced = await api.post('/targets/vault/label', { label: 'tue', force: 'mon' });
    const free = { canBeLabelled: true, keptBecause: null };
    expect(forced.body).toMatchObject({ label: 'tue', number: 1, cartridge: 'T1', ...free });
    await api.refused('/targets/vault/media/mon', {}, 404, 'NOT_FOUND');
  });

  it('have each another label in their set', async () => {
    const api = await start();
    for (const cartridge of ['T1', 'T2']) await api.post('/targets/vault/media', { cartridge });
    await api.post('/targets/vault/load', { medium: 'T1' });
    await api.post('/targets/vault/label', { label: 'mon' });
    await api.post('/targets/vault/load', { medium: 'T2' });
    await api.refused('/targets/vault/label', post({ label: 'mon' }), 409, 'NAME_TAKEN');
    await api.refused('/targets/vault/label', post({ label: 'A B' }), 400, 'NAME_INVALID');
    for (const wrong of [{ recordBytes: 65537 }, { recordBytes: 2097152 }]) {
      await api.refused('/targets/vault/label', post(wrong), 400, 'VALIDATION_FAILED');
    }
    expect((await api.get('/targets/vault/media/T2')).body.state).toBe('unlabelled');
    const second = await api.post('/targets/vault/label', {});
    expect(second.body).toMatchObject({ label: 'nightly-2', number: 2 });
  });

  it('are given up', async () => {
    const api = await start();
    await api.post('/targets/vault/media', { cartridge: 'T1' });
    const gone = { method: 'DELETE' };
    await api.refused('/targets/vault/media/T1', gone, 404, 'NOT_FOUND');
    await api.post('/targets/vault/load', { medium: 'T1' });
    await api.post('/targets/vault/label', {});
    expect((await api.ask('/targets/vault/media/nightly-1', gone)).status).toBe(204);
    await api.refused('/targets/vault/media/nightly-1', gone, 404, 'NOT_FOUND');
    expect((await api.get('/targets/vault/media/T1')).body.state).toBe('unlabelled');
  });
});
