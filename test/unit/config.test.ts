import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const here = '/srv/somewhere';

function refusal(flags: readonly string[], environment: Record<string, string> = {}): string {
  try {
    loadConfig(flags, environment, here);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error('it was accepted');
}

describe('without any setting', () => {
  it('the daemon serves on this machine only', () => {
    expect(loadConfig([], {}, here)).toMatchObject({
      dataDir: '/srv/somewhere/data',
      host: '127.0.0.1',
      port: 8470,
      poolBytes: 10 * 1024 ** 3,
      roots: ['/srv/somewhere/data'],
      devices: [],
      token: undefined,
      logLevel: 'info',
    });
  });
});

describe('settings', () => {
  it('come from flags before the environment before the file', async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, 'spindle.json');
    const inFile = { port: 1, poolBytes: '1GiB', logLevel: 'warn', dataDir: 'from-file' };
    await writeFile(file, JSON.stringify(inFile));
    const environment = { SPINDLE_CONFIG: file, SPINDLE_PORT: '2', SPINDLE_DATA_DIR: 'd' };
    expect(loadConfig(['--port=3'], environment, here)).toMatchObject({
      port: 3,
      dataDir: '/srv/somewhere/d',
      poolBytes: 1024 ** 3,
      logLevel: 'warn',
    });
    expect(loadConfig(['--config', file], {}, here)).toMatchObject({ port: 1 });
  });

  it('are read from text', () => {
    const environment = {
      SPINDLE_POOL_BYTES: '1.5TiB',
      SPINDLE_ROOTS: '/a:/b/c/',
      SPINDLE_DEVICES: '/dev/loop0',
      SPINDLE_HOST: '',
      SPINDLE_PORT: '0',
      SPINDLE_OF_SOMEBODY_ELSE: 'x',
    };
    expect(loadConfig([], environment, here)).toMatchObject({
      poolBytes: 1.5 * 1024 ** 4,
      roots: ['/a', '/b/c'],
      devices: ['/dev/loop0'],
      host: '127.0.0.1',
      port: 0,
    });
  });

  it.each([
    [['--prot', '1'], {}, '--prot: there is no such flag'],
    [['--port'], {}, '--port: a value is missing'],
    [['--port', '1', '--port=2'], {}, '--port: given twice'],
    [['data'], {}, 'data: there is no such flag'],
    [['--port', 'x'], {}, 'flag --port: must be integer'],
    [[], { SPINDLE_PORT: '70000' }, 'environment SPINDLE_PORT: must be <= 65535'],
    [[], { SPINDLE_PORT: '8470.0' }, 'environment SPINDLE_PORT: must be integer'],
    [[], { SPINDLE_POOL_BYTES: 'much' }, 'environment SPINDLE_POOL_BYTES: not a size'],
    [[], { SPINDLE_POOL_BYTES: '9PiB' }, 'environment SPINDLE_POOL_BYTES: too large'],
    [[], { SPINDLE_ROOTS: 'relative' }, 'roots: relative is not a plain absolute path'],
    [[], { SPINDLE_ROOTS: '/a/../b' }, 'roots: /a/../b is not a plain absolute path'],
    [[], { SPINDLE_LOG_LEVEL: 'loud' }, 'environment SPINDLE_LOG_LEVEL: must be equal to one'],
    [[], { SPINDLE_TOKEN_FILE: 'none' }, 'token file /srv/somewhere/none: ENOENT'],
    [[], { SPINDLE_CONFIG: 'none' }, 'configuration file /srv/somewhere/none: ENOENT'],
  ] as const)('%j with %j are refused with their source', (flags, environment, message) => {
    expect(refusal(flags, environment)).toContain(message);
  });

  it('that a file does not know or spells wrong are refused', async () => {
    const file = join(await temporaryDirectory(), 'spindle.json');
    for (const [text, message] of [
      ['{"prot": 1}', 'prot: there is no such setting'],
      ['{"port": "1"}', 'port: must be integer'],
      ['{"poolBytes": "many"}', 'poolBytes: not a size, such as 10GiB'],
      ['[]', 'must be object'],
      ['{', 'configuration file'],
    ] as const) {
      await writeFile(file, text);
      expect(refusal(['--config', file])).toContain(message);
    }
  });
});

describe('a host that others can reach', () => {
  it.each(['0.0.0.0', '::', '192.168.0.1', 'storage.example'])('%s needs a token', async (host) => {
    expect(refusal(['--host', host])).toContain(`refusing to listen on ${host} without a token`);
    const file = join(await temporaryDirectory(), 'token');
    await writeFile(file, 'secret-token\n');
    const config = loadConfig(['--host', host, '--token-file', file], {}, here);
    expect(config).toMatchObject({ host, token: 'secret-token' });
  });

  it.each(['127.0.0.1', '127.9.8.7', '::1', 'localhost'])('%s is not one', (host) => {
    expect(loadConfig(['--host', host], {}, here).host).toBe(host);
  });

  it('does not take an empty token or one with spaces', async () => {
    const file = join(await temporaryDirectory(), 'token');
    for (const text of ['', '\n', 'two words', 'ümlaut']) {
      await writeFile(file, text);
      expect(refusal(['--token-file', file])).toContain('must hold one token');
    }
  });
});
