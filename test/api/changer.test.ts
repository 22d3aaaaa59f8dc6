/** Changers of targets on tape, over that of a virtual library: eight slots and two doors. */
import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';

const MIB = 1024 * 1024;
const without = { name: 'vault', kind: 'virtual-tape', path: 'vault' };
const target = { ...without, changer: 'virtual' };

async function start(...cartridges: string[]): Promise<ApiWorld> {
  const api = await ApiWorld.start();
  await api.post('/targets', target);
  for (const cartridge of cartridges) {
    await api.post('/targets/vault/media', { cartridge, sizeBytes: 4 * MIB });
  }
  return api;
}

const post = (json?: unknown) => ({ method: 'POST', ...(json === undefined ? {} : { json }) });

async function placeOf(api: ApiWorld, cartridge: string): Promise<unknown[]> {
  const { body } = await api.get(`/targets/vault/media/${cartridge}`);
  return ['place', 'slot', 'inDrive'].map((field) => body[field] as unknown);
}

describe('a target with a changer', () => {
  it('is made once with it, and shows it', async () => {
    const api = await start();
    const shown = (await api.get('/targets/vault')).body;
    expect(shown).toMatchObject({ changer: 'virtual', changerDrive: 0 });
    expect((await api.post('/targets', target)).status).toBe(200);
    await api.refused('/targets', post(without), 409, 'NAME_TAKEN');
    const other = await api.post('/targets', { ...without, name: 'v2', path: 'v2' });
    expect(other.body).toMatchObject({ changer: null, changerDrive: null });
  });

  it('is refused if these do not go together', async () => {
    const api = await ApiWorld.start();
    for (const wrong of [
      { ...target, changer: '/dev/sg1' },
      { ...target, changerDrive: 1 },
      { ...target, changer: undefined, changerDrive: 0 },
      { ...target, kind: 'directory' },
    ]) {
      const told = await api.refused('/targets', post(wrong), 400, 'VALIDATION_FAILED');
      expect(told.field).toMatch(/^changer/);
    }
  });
});

describe('the places of a library', () => {
  it('are shown of each cartridge, labelled or not', async () => {
    const api = await start('T1', 'T2');
    await api.post('/targets/vault/load', { medium: 'T2' });
    await api.post('/targets/vault/label', { label: 'mon' });
    const { items } = (await api.get('/targets/vault/media')).body;
    expect(items).toMatchObject([
      { label: 'mon', barcode: 'T2', place: 'drive', slot: 2, inDrive: true },
      { label: null, barcode: 'T1', place: 'slot', slot: 1, inDrive: false },
    ]);
    await api.post('/targets/vault/eject');
    expect(await placeOf(api, 'mon')).toEqual(['shelf', null, false]);
  });

  it('are shown of the changer', async () => {
    const api = await start('T1', 'T2', 'CLN01');
    await api.post('/targets/vault/load', { medium: 'T2' });
    await api.post('/targets/vault/label', { label: 'mon' });
    await api.post('/targets/vault/media/T1/export');
    const { status, body } = await api.get('/targets/vault/changer');
    expect(status).toBe(200);
    const loaded = { drive: 0, isOwn: true, isFull: true, barcode: 'T2', sourceSlot: 2 };
    expect(body.drives).toEqual([{ ...loaded, label: 'mon' }]);
    expect(body.slots).toHaveLength(10);
    const empty = { isImportExport: false, isFull: false, barcode: null, label: null };
    expect(body.slots[0]).toEqual({ slot: 1, ...empty });
    expect(body.slots[2]).toEqual({ slot: 3, ...empty, isFull: true, barcode: 'CLN01' });
    expect(body.slots[8]).toMatchObject({ slot: 9, isImportExport: true, barcode: 'T1' });
    await api.post('/targets', { name: 'hands', kind: 'virtual-tape', path: 'hands' });
    await api.refused('/targets/hands/changer', {}, 400, 'VALIDATION_FAILED');
  });
});

describe('a changer', () => {
  it('loads by slot or cartridge, and puts back what was in the drive', async () => {
    const api = await start('T1', 'T2', 'T3');
    const loaded = await api.post('/targets/vault/load', { slot: 3 });
    expect(loaded).toMatchObject({ status: 200, body: { barcode: 'T3', inDrive: true, slot: 3 } });
    await api.post('/targets/vault/load', { medium: 'T1' });
    expect(await placeOf(api, 'T3')).toEqual(['slot', 3, false]);
    expect(await placeOf(api, 'slot:1')).toEqual(['drive', 1, true]);
    await api.refused('/targets/vault/load', post({ slot: 7 }), 404, 'NOT_FOUND');
    for (const wrong of [{}, { slot: 1, medium: 'T1' }, { slot: 0 }, { slot: 1.5 }]) {
      await api.refused('/targets/vault/load', post(wrong), 400, 'VALIDATION_FAILED');
    }
  });

  it('unloads to where the cartridge came from, or to the slot that is asked for', async () => {
    const api = await start('T1', 'T2');
    await api.refused('/targets/vault/unload', post(), 409, 'MEDIUM_ABSENT');
    await api.post('/targets/vault/load', { medium: 'T1' });
    await api.refused('/targets/vault/unload?slot=2', post(), 409, 'TARGET_IN_USE');
    await api.refused('/targets/vault/unload?slot=99', post(), 404, 'NOT_FOUND');
    await api.refused('/targets/vault/unload?slot=x', post(), 400, 'VALIDATION_FAILED');
    expect((await api.post('/targets/vault/unload?slot=6')).status).toBe(204);
    expect(await placeOf(api, 'T1')).toEqual(['slot', 6, false]);
    await api.post('/targets/vault/load', { medium: 'T1' });
    await api.post('/targets/vault/unload');
    expect(await placeOf(api, 'T1')).toEqual(['slot', 6, false]);
    await api.post('/targets', { name: 'hands', kind: 'virtual-tape', path: 'hands' });
    await api.refused('/targets/hands/unload?slot=1', post(), 400, 'VALIDATION_FAILED');
  });

  it('brings cartridges to the door and back', async () => {
    const api = await start('T1', 'T2', 'T3');
    const key = { 'idempotency-key': 'export-1' };
    const out = await api.post('/targets/vault/media/T1/export', undefined, key);
    expect(out).toMatchObject({ status: 200, body: { place: 'import-export', slot: 9 } });
    const replay = await api.post('/targets/vault/media/T1/export', undefined, key);
    expect(replay.headers.get('idempotency-replayed')).toBe('true');
    // There already: nothing is moved.
    expect((await api.post('/targets/vault/media/T1/export')).body.slot).toBe(9);
    await api.post('/targets/vault/load', { medium: 'T2' });
    expect((await api.post('/targets/vault/media/T2/export')).body.slot).toBe(10);
    const full = await api.refused('/targets/vault/media/T3/export', post(), 409, 'TARGET_IN_USE');
    expect(full.next).toBe('take out what is there');
    const back = await api.post('/targets/vault/media/T2/import');
    expect(back).toMatchObject({ status: 200, body: { place: 'slot', slot: 1 } });
    expect((await api.post('/targets/vault/media/slot:9/import')).body.barcode).toBe('T1');
    expect((await api.get('/targets/vault/changer')).body.slots[8].isFull).toBe(false);
    await api.refused('/targets/vault/media/T9/export', post(), 404, 'NOT_FOUND');
    await api.refused('/targets/vault/media/T9/import', post(), 404, 'NOT_FOUND');
  });

  it('takes in what was carried off-site, and no more than fits', async () => {
    const api = await start('T1');
    await api.post('/targets/vault/load', { medium: 'T1' });
    await api.post('/targets/vault/eject');
    expect(await placeOf(api, 'T1')).toEqual(['shelf', null, false]);
    await api.refused('/targets/vault/media/T1/export', post(), 404, 'NOT_FOUND');
    expect((await api.post('/targets/vault/media/T1/import')).body.place).toBe('slot');
    await api.post('/targets', { name: 'hands', kind: 'virtual-tape', path: 'hands' });
    await api.post('/targets/hands/media', { cartridge: 'T1' });
    for (const move of ['export', 'import']) {
      const path = `/targets/hands/media/T1/${move}`;
      await api.refused(path, post(), 400, 'VALIDATION_FAILED');
    }
  });
});
