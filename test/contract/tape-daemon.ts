/**
 * The daemon with a tape drive, as tests over its interface: in `npm test` over the virtual drive,
 * in `npm run test:tape` over the kernel's driver.
 *
 *     describeTapeDaemon('virtual', (dataDir) => hands);
 */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DaemonTapeHands } from '../support/tape-hands.ts';
import { TapeSite } from '../support/tape-site.ts';
import type { Json } from '../support/tape-site.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const tools = join(import.meta.dirname, '..', '..', 'tools');
const small = { cartridges: 4, cartridgeBytes: 2 * MIB, dataBytes: 4 * MIB };

type MakeHands = (dataDir: string) => DaemonTapeHands;

/** @param hasChanger it fetches by itself what was labelled */
export function describeTapeMethods(kind: string, hasChanger: boolean, makeHands: MakeHands): void {
  describe(`a backup on tape (${kind})`, () => {
    it('over three cartridges is the image, and is given back by each method', async () => {
      const { site, data } = await TapeSite.open(makeHands, small);
      await site.post('/disks/d1/copies', { name: 'monday' });
      const image = await site.client.bytes('/copies/monday/image');
      const { asked } = await succeeds(site, '/backups', {
        name: 'b1',
        copy: 'monday',
        target: 'vault',
      });
      expect(asked).toEqual([null, null, null]);
      await succeeds(site, '/backups', { name: 'b2', copy: 'monday', target: 'shelf' });
      const file = await readFile(join(site.directory, 'data/shelf/b2/image.spindle'));
      expect(file.equals(image)).toBe(true);

      const verified = await succeeds(site, '/backups/b1/verify');
      expect(verified.job.result).toMatchObject({ ok: true });
      // The third one is in the drive.
      expect(verified.asked).toHaveLength(hasChanger ? 0 : 3);
      await succeeds(site, '/backups/b1/restores', { method: 'remap', disk: 'd2' });
      expect((await site.data('d2', data.length)).equals(data)).toBe(true);
      await site.put('d1', 0, Buffer.alloc(MIB, 7));
      await succeeds(site, '/backups/b1/restores', { method: 'write-back', disk: 'd1' });
      expect((await site.data('d1', data.length)).equals(data)).toBe(true);
      await succeeds(site, '/backups/b1/restores', { method: 'copy', copy: 'c2' });
      const content = await site.client.bytes('/copies/c2/data?offset=0&length=65536');
      expect(content.equals(data.subarray(0, 64 * KIB))).toBe(true);

      await site.stop();
      const dumps = await dumpsOf(site);
      const out = join(site.directory, 'out');
      const program = join(tools, 'spindle-tape.py');
      const args = [program, 'extract', ...dumps, '--output', out];
      const { status, stderr } = spawnSync('python3', args, { encoding: 'utf8' });
      expect([status, stderr]).toEqual([0, '']);
      expect((await readFile(join(out, 'b1.spindle'))).equals(image)).toBe(true);
    });
  });
}

export function describeTapeDaemon(kind: string, makeHands: MakeHands): void {
  describe(`a daemon with a tape drive (${kind})`, () => {
    it.each([
      ['killed', (site: TapeSite) => site.kill()],
      ['cut off from the current', (site: TapeSite) => site.hands.powerCut(() => site.kill())],
    ])('goes on by itself after it was %s while it wrote', async (_, end) => {
      const sizes = { cartridges: 4, cartridgeBytes: 4 * MIB, dataBytes: 10 * MIB };
      const { site, data } = await TapeSite.open(makeHands, sizes);
      const { id } = await site.post('/backups', {
        name: 'b1',
        disk: 'd1',
        target: 'vault',
        maxBytesPerSecond: 2 * MIB,
      });
      for (const volumeNumber of [1, 2, 3]) {
        await site.jobWhen(id, (job) => job.waitingFor?.volumeNumber === volumeNumber);
        await site.labelNext();
      }
      // The image is read in pieces of 4 MiB: two are written, the limit keeps the third back.
      const begun = await site.jobWhen(id, (job) => job.doneBytes >= 7.5 * MIB);
      expect(begun).toMatchObject({ state: 'running' });
      await end(site);
      const before = await partsOf(site, 'nightly-1');
      await site.start();
      const { job } = await site.serve(id);
      expect(job).toMatchObject({ state: 'succeeded' });
      await succeeds(site, '/backups/b1/restores', { method: 'remap', disk: 'd2' });
      expect((await site.data('d2', data.length)).equals(data)).toBe(true);

      // What is confirmed is not written again, and a scan finds what the catalog knows.
      expect(await partsOf(site, 'nightly-1')).toEqual(before);
      const known = await media(site);
      const written = sum(known.map(({ dataBytes }) => dataBytes));
      const backup = await site.get('/backups/b1');
      expect(written).toBe(backup.mediumBytes);
      for (const cartridge of site.cartridges.values()) {
        await site.hands.insert(site.client, 'vault', cartridge);
        await succeeds(site, '/targets/vault/scan');
      }
      expect(await media(site)).toEqual(known);
    });

    it('appends behind what is there after a restart', async () => {
      const options = { ...small, cartridges: 1, cartridgeBytes: 8 * MIB, dataBytes: MIB };
      const { site, data } = await TapeSite.open(makeHands, options);
      await site.labelNext();
      await succeeds(site, '/backups', { name: 'b1', disk: 'd1', target: 'vault' });
      await site.stop();
      const before = await partsOf(site, 'nightly-1');
      await site.start();
      await site.put('d1', 0, Buffer.alloc(64 * KIB, 5));
      const request = { name: 'b2', disk: 'd1', target: 'vault', level: 'incremental' };
      const { asked } = await succeeds(site, '/backups', request);
      expect(asked).toEqual([]);
      for (const name of ['b1', 'b2']) {
        await succeeds(site, `/backups/${name}/restores`, { method: 'remap', disk: `of-${name}` });
      }
      expect((await site.data('of-b1', data.length)).equals(data)).toBe(true);
      data.fill(5, 0, 64 * KIB);
      expect((await site.data('of-b2', data.length)).equals(data)).toBe(true);
      await site.stop();
      expect((await partsOf(site, 'nightly-1')).slice(0, before.length)).toEqual(before);
    });

    it('restores around a bad spot, and tells exactly what it has cost', async () => {
      const { site, data } = await TapeSite.open(makeHands, small);
      await succeeds(site, '/backups', { name: 'b1', disk: 'd1', target: 'vault' });
      await site.stop();
      await site.hands.damage(site.cartridges.get('nightly-2') ?? '', 8);
      await site.start();
      const path = '/backups/b1/restores';
      const refused = await site.post(path, { method: 'remap', disk: 'd2' });
      const { job } = await site.serve(refused.id);
      expect(job).toMatchObject({ state: 'failed', problem: { code: 'DATA_UNREADABLE' } });
      const skipping = { method: 'remap', disk: 'd3', onDamage: 'skip' };
      const { job: around } = await succeeds(site, path, skipping);
      const { damaged } = around.result as { damaged: Damage[] };
      const lost = sum(damaged.map(({ length }) => length));
      // One record of 64 KiB touches at most two blocks.
      expect(lost).toBeGreaterThan(0);
      expect(lost).toBeLessThanOrEqual(128 * KIB);
      const restored = await site.data('d3', data.length);
      for (const { sourceOffset, length } of damaged) {
        data.copy(restored, sourceOffset, sourceOffset, sourceOffset + length);
      }
      expect(restored.equals(data)).toBe(true);
    });
  });
}

/** Hands load cartridges, and there is nobody else who does. */
export function describeTapeHands(kind: string, makeHands: MakeHands): void {
  describe(`a tape drive that hands serve (${kind})`, () => {
    it('does not write to a cartridge that is not of its set', async () => {
      const { site } = await TapeSite.open(makeHands, { ...small, dataBytes: MIB });
      const [own, foreign] = [site.blank[0] ?? '', site.blank[1] ?? ''];
      await site.labelNext();
      await site.hands.insert(site.client, 'vault', foreign);
      const { id } = await site.post('/backups', { name: 'b1', disk: 'd1', target: 'vault' });
      const waiting = await site.jobWhen(id, (job) => job.waitingFor?.kind === 'medium');
      expect(waiting.waitingFor).toMatchObject({ label: 'nightly-1', code: 'MEDIUM_BLANK' });
      await site.hands.insert(site.client, 'vault', own);
      const { job } = await site.serve(id);
      expect(job).toMatchObject({ state: 'succeeded' });
      await site.stop();
      expect(await site.hands.objects(foreign)).toEqual([]);
    });

    it('refuses a target on a device that is not named, not there, or no tape drive', async () => {
      const { site } = await TapeSite.open(
        (dataDir) => withDevices(makeHands(dataDir), '/dev/nst7:/dev/null'),
        { ...small, cartridges: 0, dataBytes: MIB },
      );
      const codes = [];
      for (const path of ['/dev/nst8', '/dev/nst7', '/dev/null']) {
        const answer = await site.client.post('/targets', { name: 'x', kind: 'tape', path });
        codes.push([answer.status, ((await answer.json()) as Json).code]);
      }
      expect(codes).toEqual([
        [400, 'PATH_NOT_ALLOWED'],
        [503, 'TARGET_UNAVAILABLE'],
        [503, 'TARGET_UNAVAILABLE'],
      ]);
      expect((await site.get('/targets')).items).toHaveLength(2);
    });
  });
}

/** What only hands can do that reach into a drive whose door is locked. */
export function describeSwappedCartridge(makeHands: MakeHands): void {
  describe('a cartridge that is swapped while the daemon writes', () => {
    it('is not written to, and the backup goes on with its own', async () => {
      const { site, data } = await TapeSite.open(makeHands, {
        cartridges: 2,
        cartridgeBytes: 16 * MIB,
        dataBytes: 10 * MIB,
      });
      await site.labelNext();
      const other = site.blank[0] ?? '';
      const request = { name: 'b1', disk: 'd1', target: 'vault', maxBytesPerSecond: 2 * MIB };
      const { id } = await site.post('/backups', request);
      await site.jobWhen(id, (job) => job.doneBytes > 3 * MIB);
      await site.hands.swap?.(other);
      const { job, asked } = await site.serve(id);
      expect(job).toMatchObject({ state: 'succeeded' });
      expect(asked).toEqual(['nightly-1']);
      await succeeds(site, '/backups/b1/restores', { method: 'remap', disk: 'd2' });
      expect((await site.data('d2', data.length)).equals(data)).toBe(true);
      await site.stop();
      expect(await site.hands.objects(other)).toEqual([]);
    });
  });
}

function withDevices(hands: DaemonTapeHands, more: string): DaemonTapeHands {
  const named = hands.settings['SPINDLE_DEVICES'];
  const devices = named === undefined ? more : `${named}:${more}`;
  return Object.assign(hands, { settings: { SPINDLE_DEVICES: devices } });
}

async function succeeds(site: TapeSite, path: string, body?: unknown) {
  const { id } = await site.post(path, body);
  const served = await site.serve(id);
  expect(served.job, JSON.stringify(served.job)).toMatchObject({ state: 'succeeded' });
  return served;
}

interface Damage {
  readonly sourceOffset: number;
  readonly length: number;
}

interface Known {
  readonly id: string | null;
  readonly label: string | null;
  readonly state: string;
  readonly dataBytes: number;
  readonly backups: readonly string[];
}

/** What the catalog knows of the cartridges, without where they are. */
async function media(site: TapeSite): Promise<Known[]> {
  const { items } = (await site.get('/targets/vault/media')) as { items: Known[] };
  return items.map(({ id, label, state, dataBytes, backups }) => {
    return { id, label, state, dataBytes, backups };
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

/** Objects of a cartridge. The drive is closed. */
async function partsOf(site: TapeSite, label: string) {
  return site.hands.objects(site.cartridges.get(label) ?? '');
}

async function dumpsOf(site: TapeSite): Promise<string[]> {
  const files = [];
  for (const [label, cartridge] of site.cartridges) {
    const file = join(site.directory, `${label}.tap`);
    await site.hands.dump(cartridge, file);
    files.push(file);
  }
  return files;
}
