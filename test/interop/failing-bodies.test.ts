/**
 * What curl, Python and fetch get to see when a PUT fails while its body is still being sent, and
 * what is on the disk then.
 */
import { createReadStream, openAsBlob } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { TestContext } from 'vitest';
import { bytesOf } from './content.ts';
import { needs, output } from './programs.ts';
import { Served } from './served.ts';
import type { AnyJson } from './served.ts';

const MIB = 1024 ** 2;

interface Put {
  readonly url: string;
  readonly file: string;
  /** Without a length that the daemon could judge by. */
  readonly chunked?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Answer {
  readonly status: number;
  readonly problem: AnyJson;
}

type PutBy = (put: Put) => Promise<Answer>;

const byCurl: PutBy = async ({ url, file, chunked = false, headers = {} }) => {
  const given = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const script = chunked ? 'cat "$0" | curl "$@" -T -' : 'curl "$@" -T "$0"';
  const args = ['-c', script, file, '-sS', '-w', '\n%{http_code}', ...given, url];
  const [text = '', status] = (await output('bash', args)).split(/\n(\d{3})$/);
  return { status: Number(status), problem: JSON.parse(text) };
};

const byPython: PutBy = async ({ url, file, chunked = false, headers = {} }) => {
  const program = join(import.meta.dirname, 'put.py');
  const options = Object.entries(headers).map(([name, value]) => `${name}:${value}`);
  const args = [program, url, file, ...(chunked ? ['chunked'] : []), ...options];
  const [status, text = ''] = (await output('python3', args)).split('\n');
  return { status: Number(status), problem: JSON.parse(text) };
};

const byFetch: PutBy = async ({ url, file, chunked = false, headers = {} }) => {
  const stream = (): ReadableStream => Readable.toWeb(createReadStream(file)) as ReadableStream;
  const body = chunked ? stream() : await openAsBlob(file);
  const init: RequestInit = { method: 'PUT', headers, body, duplex: 'half' };
  const answer = await fetch(url, init);
  return { status: answer.status, problem: await answer.json() };
};

const clients: readonly (readonly [string, PutBy])[] = [
  ['curl', byCurl],
  ['python3', byPython],
  ['fetch', byFetch],
];

/** A daemon with a file of random bytes to send. */
async function serve(
  test: TestContext,
  name: string,
  { poolBytes, fileBytes }: { poolBytes: string; fileBytes: number },
): Promise<{ served: Served; file: string; bytes: Buffer }> {
  if (name !== 'fetch') needs(test, name);
  const served = await Served.start({ SPINDLE_POOL_BYTES: poolBytes });
  const file = join(served.directory, 'body');
  const bytes = bytesOf(fileBytes);
  await writeFile(file, bytes);
  return { served, file, bytes };
}

/** The disk has exactly the first bytes of the body, and zeros behind them. */
async function expectPrefix(served: Served, body: Buffer, writtenBytes: number): Promise<void> {
  const found = await served.bytes(`/disks/d1/data?length=${writtenBytes + MIB}`);
  const wanted = Buffer.concat([body.subarray(0, writtenBytes), Buffer.alloc(MIB)]);
  expect(found.equals(wanted)).toBe(true);
}

describe.each(clients)('%s, sending a body that fails in its middle,', (name, put) => {
  it.for([false, true])('sees that the pool is full (chunked: %s)', async (chunked, test) => {
    const { served, file, bytes } = await serve(test, name, {
      poolBytes: '64MiB',
      fileBytes: 96 * MIB,
    });
    await served.post('/disks', { name: 'd1', capacity: '1GiB' });
    const url = `${served.url}/disks/d1/data?offset=0`;
    const { status, problem } = await put({ url, file, chunked });
    expect(status).toBe(507);
    expect(problem).toMatchObject({ code: 'POOL_FULL', pool: 'default', retryable: true });
    expect(problem.writtenBytes).toBeGreaterThan(32 * MIB);
    expect(problem.writtenBytes).toBeLessThanOrEqual(64 * MIB);
    await expectPrefix(served, bytes, problem.writtenBytes);
  });

  it('sees that the disk ended', async (test) => {
    const { served, file, bytes } = await serve(test, name, {
      poolBytes: '128MiB',
      fileBytes: 40 * MIB,
    });
    await served.post('/disks', { name: 'd1', capacity: '32MiB' });
    const url = `${served.url}/disks/d1/data?offset=0`;
    const refused = await put({ url, file });
    expect(refused).toMatchObject({ status: 416, problem: { code: 'RANGE_NOT_SATISFIABLE' } });
    expect((await served.get('/disks/d1')).usedBytes).toBe(0);
    const cut = await put({ url, file, chunked: true });
    expect(cut).toMatchObject({ status: 416, problem: { code: 'RANGE_NOT_SATISFIABLE' } });
    const { writtenBytes } = cut.problem;
    expect(writtenBytes).toBeGreaterThan(0);
    expect(writtenBytes).toBeLessThanOrEqual(32 * MIB);
    const found = await served.bytes('/disks/d1/data');
    expect(found.subarray(0, writtenBytes).equals(bytes.subarray(0, writtenBytes))).toBe(true);
    expect(found.subarray(writtenBytes).every((byte) => byte === 0)).toBe(true);
  });

  it('sees at its end that the digest is wrong', async (test) => {
    const { served, file, bytes } = await serve(test, name, {
      poolBytes: '64MiB',
      fileBytes: 8 * MIB,
    });
    await served.post('/disks', { name: 'd1', capacity: '1GiB' });
    const url = `${served.url}/disks/d1/data?offset=0`;
    const headers = { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` };
    const { status, problem } = await put({ url, file, headers });
    expect(status).toBe(400);
    expect(problem).toMatchObject({ code: 'DIGEST_MISMATCH', writtenBytes: bytes.length });
    await expectPrefix(served, bytes, bytes.length);
  });
});
