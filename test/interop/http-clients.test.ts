import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TestContext } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import type { AnyJson } from '../support/api-world.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { needs, run } from './programs.ts';

const MIB = 1024 * 1024;

/** What a client sees of a PUT of a file: the status and the body of the answer. */
type Put = (context: TestContext, url: string, file: string) => Promise<[number, AnyJson]>;

function parsed(text: string): AnyJson {
  return text === '' ? undefined : JSON.parse(text);
}

async function curl(context: TestContext, args: readonly string[]): Promise<[number, AnyJson]> {
  needs(context, 'curl');
  const { stdout, stderr } = await run('curl', ['-sS', '-w', '\n%{http_code}', ...args]);
  expect(stderr).not.toMatch(/reset|broken pipe/i);
  const text = stdout.toString();
  const at = text.lastIndexOf('\n');
  return [Number(text.slice(at + 1)), parsed(text.slice(0, at))];
}

const python = `
import http.client, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.netloc)
with open(sys.argv[2], 'rb') as body:
    if sys.argv[3] == 'chunked':
        pieces = iter(lambda: body.read(100000), b'')
        connection.request('PUT', url.path + '?' + url.query, pieces, encode_chunked=True,
                           headers={'Transfer-Encoding': 'chunked'})
    else:
        connection.request('PUT', url.path + '?' + url.query, body.read())
answer = connection.getresponse()
sys.stdout.buffer.write(answer.read() + b'\\n%d' % answer.status)
`;

const pythonPut =
  (mode: string): Put =>
  async (context, url, file) => {
    needs(context, 'python3');
    const { stdout, stderr } = await run('python3', ['-c', python, url, file, mode]);
    expect(stderr).toBe('');
    const text = stdout.toString();
    const at = text.lastIndexOf('\n');
    return [Number(text.slice(at + 1)), parsed(text.slice(0, at))];
  };

const clients: readonly (readonly [string, Put])[] = [
  ['curl', (context, url, file) => curl(context, ['-T', file, url])],
  [
    'curl without waiting for 100 Continue',
    (context, url, file) => curl(context, ['-H', 'Expect:', '-T', file, url]),
  ],
  [
    'curl from a pipe',
    (context, url, file) => curl(context, ['-H', 'Transfer-Encoding: chunked', '-T', file, url]),
  ],
  ['http.client of Python', pythonPut('length')],
  ['http.client of Python without length', pythonPut('chunked')],
  [
    'fetch',
    async (_context, url, file) => {
      const answer = await fetch(url, { method: 'PUT', body: await readFile(file) });
      return [answer.status, parsed(await answer.text())];
    },
  ],
];

async function fileOf(length: number): Promise<{ file: string; bytes: Buffer }> {
  const bytes = randomBytes(length);
  const file = join(await temporaryDirectory(), 'body');
  await writeFile(file, bytes);
  return { file, bytes };
}

describe.each(clients)('%s', (_name, put) => {
  it.each([0, 1000, 3 * MIB, 9 * MIB + 7])('writes %i bytes', async (length) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const { file, bytes } = await fileOf(length);
    // vitest gives its context to the last parameter only without a table
    const context = { skip: () => undefined } as unknown as TestContext;
    const [status] = await put(context, `${api.origin}/v1/disks/d1/data?offset=123`, file);
    expect(status).toBe(204);
    if (length === 0) return;
    const answer = await api.get(`/disks/d1/data?offset=123&length=${length}`);
    expect(answer.bytes.equals(bytes)).toBe(true);
  });

  it('sees that the pool was full in the middle of 48 MiB', async (context) => {
    const api = await ApiWorld.start();
    await api.post('/pools', { name: 'tiny', files: [{ path: 'tiny', sizeBytes: 8 * MIB }] });
    await api.disk('d1', { pool: 'tiny' });
    const { file } = await fileOf(48 * MIB);
    const [status, body] = await put(context, `${api.origin}/v1/disks/d1/data?offset=0`, file);
    expect(status).toBe(507);
    expect(body).toMatchObject({ code: 'POOL_FULL', retryable: true });
    expect(body.writtenBytes).toBeGreaterThan(0);
  });

  it('sees that the range is beyond the end', async (context) => {
    const api = await ApiWorld.start();
    await api.disk('d1', { capacityBytes: 8 * MIB });
    const { file } = await fileOf(20 * MIB);
    const [status, body] = await put(context, `${api.origin}/v1/disks/d1/data?offset=0`, file);
    expect(status).toBe(416);
    expect(body).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE', capacityBytes: 8 * MIB });
  });

  it('sees that there is no such disk, or that a token is needed', async (context) => {
    const { file } = await fileOf(20 * MIB);
    const open = await ApiWorld.start();
    const lost = await put(context, `${open.origin}/v1/disks/d1/data?offset=0`, file);
    expect(lost).toMatchObject([404, { code: 'NOT_FOUND' }]);
    const closed = await ApiWorld.start({ token: 'a-secret-token' });
    const barred = await put(context, `${closed.origin}/v1/disks/d1/data?offset=0`, file);
    expect(barred).toMatchObject([401, { code: 'UNAUTHORIZED' }]);
  });
});
