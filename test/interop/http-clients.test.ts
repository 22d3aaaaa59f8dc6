/**
 * Bodies from the clients that people use: written whole, and refused before they matter. Failures
 * in the middle are in failing-bodies.test.ts.
 */
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

async function curl(context: TestContext, command: string, args: readonly string[]) {
  needs(context, 'curl');
  const script = command.replace('curl', "curl -sS -w '\\n%{http_code}'");
  const { stdout, stderr } = await run('sh', ['-c', script, 'sh', ...args]);
  expect(stderr).not.toMatch(/reset|broken pipe/i);
  const text = stdout.toString();
  const at = text.lastIndexOf('\n');
  const answer: [number, AnyJson] = [Number(text.slice(at + 1)), parsed(text.slice(0, at))];
  return answer;
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
  ['curl', (context, url, file) => curl(context, 'curl -T "$2" "$1"', [url, file])],
  [
    'curl without waiting for 100 Continue',
    (context, url, file) => curl(context, 'curl -H Expect: -T "$2" "$1"', [url, file]),
  ],
  [
    'curl from a pipe',
    (context, url, file) => curl(context, 'cat "$2" | curl -T - "$1"', [url, file]),
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
  it.for([0, 1000, 3 * MIB, 9 * MIB + 7])('writes %i bytes', async (length, context) => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const { file, bytes } = await fileOf(length);
    const [status] = await put(context, `${api.origin}/v1/disks/d1/data?offset=123`, file);
    expect(status).toBe(204);
    const answer = await api.get(`/disks/d1/data?offset=123&length=${length + 1}`);
    expect(answer.bytes.equals(Buffer.concat([bytes, Buffer.alloc(1)]))).toBe(true);
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
