import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../src/config.ts';
import { Daemon } from '../../../src/daemon.ts';

let dir: string;

function daemon(salvage: boolean): Daemon {
  const flags = ['--data-dir', dir, '--port', '0', '--pool-bytes', '8MiB'];
  const config = loadConfig(flags, salvage ? { SPINDLE_SALVAGE: 'true' } : {}, dir);
  const onFatal = (error: unknown): never => {
    throw error;
  };
  return new Daemon({ config, log: pino({ level: 'silent' }), onFatal });
}

/** One life of a daemon. */
async function life<T>(work: (url: string) => Promise<T>, salvage = false): Promise<T> {
  const running = daemon(salvage);
  await running.start();
  try {
    return await work(`${running.url}/v1`);
  } finally {
    await running.stop();
  }
}

async function status(url: string, method: string, body?: string): Promise<number> {
  const headers = { 'content-type': body?.startsWith('{') === true ? 'application/json' : 'x/x' };
  const response = await fetch(url, { method, ...(body === undefined ? {} : { body, headers }) });
  await response.arrayBuffer();
  return response.status;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spindle-older-'));
  await life(async (url) => {
    const made = JSON.stringify({ name: 'd1', capacityBytes: 2 ** 40 });
    expect(await status(`${url}/disks`, 'POST', made)).toBe(201);
    expect(await status(`${url}/disks/d1/data?offset=0`, 'PUT', 'in the first life')).toBe(204);
  });
  await copyFile(join(dir, 'meta.db'), join(dir, 'old.db'));
  await life(async () => Promise.resolve());
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('a database that is older than its pools', () => {
  beforeEach(async () => {
    await copyFile(join(dir, 'old.db'), join(dir, 'meta.db'));
  });

  it('is refused, however often it is tried', async () => {
    for (let attempt = 0; attempt < 4; attempt += 1) {
      await expect(daemon(false).start()).rejects.toMatchObject({
        code: 'METADATA_OLDER_THAN_POOL',
      });
    }
  });

  it('is opened for salvage: everything is read and nothing written', async () => {
    await life(async (url) => {
      const response = await fetch(`${url}/disks/d1/data?offset=0&length=17`);
      expect(await response.text()).toBe('in the first life');
      expect(await status(`${url}/disks/d1/data?offset=0`, 'PUT', 'x')).toBe(409);
      expect(await status(`${url}/disks/d1`, 'DELETE')).toBe(409);
      expect(await status(`${url}/check`, 'GET')).toBe(200);
      expect(await status(`${url}/jobs`, 'GET')).toBe(200);
    }, true);
    await expect(daemon(false).start()).rejects.toMatchObject({
      code: 'METADATA_OLDER_THAN_POOL',
    });
  });
});

it('the newest database opens again after all', async () => {
  await life(async (url) => {
    const response = await fetch(`${url}/disks/d1/data?offset=0&length=17`);
    expect(await response.text()).toBe('in the first life');
  });
});

it('a pool file that is older than the database is refused with its reason', async () => {
  const file = join(dir, 'pool-default.dat');
  await copyFile(file, join(dir, 'old.dat'));
  await life(async (url) => {
    expect(await status(`${url}/disks/d1/data?offset=0`, 'PUT', 'in a later life!!')).toBe(204);
  });
  await copyFile(join(dir, 'old.dat'), file);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await expect(daemon(false).start()).rejects.toMatchObject({ code: 'POOL_FILE_INVALID' });
  }
});
