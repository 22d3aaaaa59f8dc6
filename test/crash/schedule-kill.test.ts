/**
 * The real daemon with schedules that run each second, killed again and again: each instant has one
 * run, each run comes to an end, and nothing is left behind.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { builtMain } from '../support/built.ts';
import { Client, type Json, jsonOf, Lost } from './client.ts';
import { DaemonProcess } from './daemon-process.ts';
import { Random } from './random.ts';

const KILLS = 8;
const MIB = 1024 * 1024;

interface JobSeen {
  readonly id: string;
  readonly state: string;
  readonly subject: Json;
  readonly result: Json | null;
  readonly problem: Json | null;
}

class Lives {
  readonly folder = mkdtempSync(join(tmpdir(), 'spindle-schedules-'));
  #daemon: DaemonProcess | undefined;
  #client: Client | undefined;
  #isDying = false;

  async start(): Promise<void> {
    const daemon = DaemonProcess.start({
      folder: this.folder,
      poolBytes: 256 * MIB,
      main: builtMain,
    });
    this.#daemon = daemon;
    await daemon.ready();
    this.#isDying = false;
    this.#client = new Client(
      daemon.url,
      () => this.#isDying,
      () => undefined,
    );
  }

  async kill(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    this.#isDying = true;
    await daemon?.kill();
    this.#client?.close();
    daemon?.check();
  }

  async json(method: string, path: string, json?: unknown): Promise<Json> {
    return this.#client!.json(method, path, json === undefined ? {} : { json });
  }

  /** Writes until the daemon is gone. */
  async write(random: Random): Promise<void> {
    try {
      for (;;) {
        const disk = random.pick(['d1', 'd2', 'd3'])!;
        const offset = random.int(0, 60) * 65_536;
        const body = Buffer.alloc(random.int(1, 65_536), random.int(1, 255));
        await this.#client!.ask('PUT', `/disks/${disk}/data?offset=${offset}`, { body });
      }
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
  }

  async list<T>(path: string): Promise<T[]> {
    const found: T[] = [];
    const join_ = path.includes('?') ? '&' : '?';
    let token = '';
    do {
      const page = jsonOf(
        await this.#client!.ask('GET', `${path}${join_}pageSize=500${token}`),
      ) as unknown as { items: T[]; nextPageToken: string | null };
      found.push(...page.items);
      token = page.nextPageToken === null ? '' : `&pageToken=${page.nextPageToken}`;
    } while (token !== '');
    return found;
  }

  end(): void {
    rmSync(this.folder, { recursive: true });
  }
}

async function prepare(lives: Lives): Promise<void> {
  for (const name of ['d1', 'd2', 'd3']) {
    await lives.json('POST', '/disks', { name, capacityBytes: 16 * MIB });
  }
  await lives.json('POST', '/targets', { name: 't', kind: 'directory', path: 'shelf' });
  const each = { target: 't', cron: '* * * * * *', overlap: 'queue' };
  const keep = { retention: { keepLast: 2 } };
  await lives.json('POST', '/schedules', { ...each, ...keep, name: 'one', disks: ['d1'] });
  const group = { group: ['d2', 'd3'], level: 'incremental' };
  await lives.json('POST', '/schedules', { ...each, ...keep, ...group, name: 'two' });
}

/** No instant has two runs, and no backup is there twice. */
async function checkOnce(lives: Lives): Promise<JobSeen[]> {
  const runs = await lives.list<JobSeen>('/jobs?kind=schedule');
  const instants = runs.map(
    ({ subject }) => `${String(subject.schedule)} ${String(subject.scheduledAt)}`,
  );
  expect(new Set(instants).size).toBe(instants.length);
  const backups = await lives.list<{ name: string }>('/backups');
  expect(new Set(backups.map(({ name }) => name)).size).toBe(backups.length);
  return runs;
}

it(`${KILLS} kills: each instant is run once, every run ends, nothing is left behind`, async () => {
  const random = new Random(7);
  const lives = new Lives();
  // whatever was found, no daemon stays behind
  onTestFinished(() => lives.kill());
  await lives.start();
  await prepare(lives);
  for (let kill = 0; kill < KILLS; kill += 1) {
    const writing = lives.write(random);
    await sleep(random.int(300, 3000));
    await lives.kill();
    await writing;
    await lives.start();
    await checkOnce(lives);
  }
  for (const name of ['one', 'two']) {
    await lives.json('PATCH', `/schedules/${name}`, { enabled: false });
  }
  let runs = await checkOnce(lives);
  while (runs.some(({ state }) => !['succeeded', 'failed', 'cancelled'].includes(state))) {
    await sleep(100);
    runs = await checkOnce(lives);
  }
  expect(runs.filter(({ state }) => state !== 'succeeded').map(({ problem }) => problem)).toEqual(
    [],
  );
  expect(runs.length).toBeGreaterThan(KILLS);
  for (const name of ['one', 'two']) {
    const schedule = await lives.json('GET', `/schedules/${name}`);
    expect(schedule).toMatchObject({ lastRun: { state: 'succeeded' }, queuedRun: null });
  }
  expect(await lives.list('/groups')).toEqual([]);
  expect(await lives.list('/copies')).toEqual([]);
  const backups = await lives.list<{ name: string; state: string; level: string }>('/backups');
  expect(backups.every(({ state }) => state === 'complete')).toBe(true);
  expect(backups.filter(({ level }) => level === 'full').length).toBeLessThan(backups.length);
  expect(await lives.json('GET', '/check')).toMatchObject({ ok: true, findings: [] });
  await lives.kill();
  lives.end();
});
