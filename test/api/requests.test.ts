import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { AssertionError } from '../../src/base/assert.ts';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

const json = { 'content-type': 'application/json' };

function post(body: string, headers: Record<string, string> = json) {
  return { method: 'POST', body, headers };
}

describe('a path', () => {
  it.each(['/v1/nothing', '/v1/disks/a/b', '/nothing', '/v1', '/v1/Disks'])(
    '%s that does not exist is a problem',
    async (path) => {
      const api = await ApiWorld.start();
      for (const method of ['GET', 'POST', 'DELETE']) {
        const body = method === 'POST' ? { body: 'x', headers: { 'content-type': 'foo' } } : {};
        await api.refused(`/${path}`, { method, ...body }, 404, 'ROUTE_NOT_FOUND');
      }
    },
  );

  it.each([
    ['DELETE', '/v1/disks', 'GET, HEAD, POST'],
    ['POST', '/v1/disks/d1', 'DELETE, GET, HEAD, PATCH'],
    ['POST', '/v1/disks/d1/data', 'DELETE, GET, HEAD, PUT'],
    ['PUT', '/v1/check', 'GET, HEAD'],
    ['OPTIONS', '/v1/jobs', 'GET, HEAD'],
    ['POST', '/healthz', 'GET, HEAD'],
  ])('does not know %s %s', async (method, path, allow) => {
    const api = await ApiWorld.start();
    await api.refused(`/${path}`, { method }, 405, 'METHOD_NOT_ALLOWED');
    const answer = await api.ask(`/${path}`, { method });
    expect(answer.headers.get('allow')).toBe(allow);
  });

  it('that is not valid is a problem', async () => {
    const api = await ApiWorld.start();
    const raw = new RawHttp(api.port);
    raw.head('GET /v1/disks/%zz');
    const answer = await raw.answer();
    expect(answer).toMatchObject({ status: 400, body: { code: 'REQUEST_MALFORMED' } });
    expect(answer.headers.get('x-request-id')).toBe(answer.body.requestId);
    raw.head(`GET /v1/disks/${'a'.repeat(300)}`);
    expect(await raw.answer()).toMatchObject({ status: 404, body: { code: 'ROUTE_NOT_FOUND' } });
    raw.head('PROPFIND /v1/disks');
    expect(await raw.answer()).toMatchObject({ status: 405, body: { code: 'METHOD_NOT_ALLOWED' } });
  });
});

describe('a request that is no HTTP', () => {
  it.each([
    ['nonsense', 'nonsense\r\n\r\n', 400, 'REQUEST_MALFORMED'],
    ['no host', 'GET /v1/disks HTTP/1.1\r\n\r\n', 400, 'REQUEST_MALFORMED'],
    [
      'too large headers',
      `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    [
      'two lengths',
      'PUT /v1/disks/d/data HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n',
      400,
      'REQUEST_MALFORMED',
    ],
  ])('with %s gets a problem', async (_name, text, status, code) => {
    const api = await ApiWorld.start();
    const raw = new RawHttp(api.port);
    raw.send(text);
    const answer = await raw.answer();
    expect(answer).toMatchObject({ status, body: { status, code } });
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    await raw.closed();
  });
});

describe('headers', () => {
  it('that come too late get a problem, not much later than they should', async () => {
    const api = await ApiWorld.start({ limits: { headersTimeoutMs: 300 } });
    const raw = new RawHttp(api.port);
    const begin = performance.now();
    raw.send('GET /v1/disks HTTP/1.1\r\nhost: a\r\n');
    expect(await raw.answer()).toMatchObject({ status: 408, body: { code: 'REQUEST_TIMEOUT' } });
    expect(performance.now() - begin).toBeLessThan(5_000);
  });
});

describe('a refusal', () => {
  it.each([
    ['/disks', { name: 'v1' }, /capacityBytes, capacity and fromCopy/, 'capacityBytes'],
    ['/disks', { name: 'v1', capacity: '99999999PiB' }, /too large/, 'capacity'],
    ['/disks', { name: 'v1', capacity: '10 apples' }, /not a size/, 'capacity'],
    ['/groups', { name: 'g', disks: ['a', { dusk: 'b' }] }, /disks\/1/, 'disks/1'],
  ])('of a POST to %s with %j names what is wrong', async (path, json, detail, field) => {
    const api = await ApiWorld.start();
    const problem = await api.refused(path, { method: 'POST', json }, 400, 'VALIDATION_FAILED');
    expect(problem.detail).toMatch(detail);
    expect(problem.field).toContain(field);
  });

  it('of what is given twice, or has no name, says so', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    const twice = '/disks/d1/data?offset=0&offset=1';
    const problem = await api.refused(twice, {}, 400, 'VALIDATION_FAILED');
    expect(problem).toMatchObject({ field: 'offset', detail: 'offset is given more than once' });
    for (const method of ['GET', 'DELETE']) {
      await api.refused('/disks/', { method }, 404, 'ROUTE_NOT_FOUND');
    }
  });
});

describe('a body', () => {
  it('of JSON that is coded is refused', async () => {
    const api = await ApiWorld.start();
    const text = '{"name":"d1","capacityBytes":512}';
    for (const body of [text, gzipSync(text)]) {
      const coded = { method: 'POST', body, headers: { ...json, 'content-encoding': 'gzip' } };
      await api.refused('/disks', coded, 415, 'MEDIA_TYPE_UNSUPPORTED');
    }
    const plain = { ...json, 'content-encoding': 'identity' };
    expect((await api.ask('/disks', post(text, plain))).status).toBe(201);
  });

  it.each([
    ['that is no JSON', post('{"name":'), 400, 'MALFORMED_BODY'],
    [
      'that is no UTF-8',
      { ...post('x'), body: Buffer.from([0x22, 0xff, 0x22]) },
      400,
      'MALFORMED_BODY',
    ],
    ['that is null', post('null'), 400, 'VALIDATION_FAILED'],
    ['that is a list', post('[]'), 400, 'VALIDATION_FAILED'],
    ['that is missing', { method: 'POST' }, 400, 'VALIDATION_FAILED'],
    [
      'of another type',
      post('a=b', { 'content-type': 'text/plain' }),
      415,
      'MEDIA_TYPE_UNSUPPORTED',
    ],
    ['of no type', post('a=b', { 'content-type': 'foo' }), 415, 'MEDIA_TYPE_UNSUPPORTED'],
    ['that is too large', post(`"${'x'.repeat(1024 * 1024)}"`), 413, 'BODY_TOO_LARGE'],
    [
      'with an unknown field',
      post('{"name":"a","capacityBytes":512,"x":1}'),
      400,
      'VALIDATION_FAILED',
    ],
    [
      'with __proto__',
      post('{"name":"a","capacityBytes":512,"__proto__":{}}'),
      400,
      'VALIDATION_FAILED',
    ],
    ['with a wrong type', post('{"name":"a","capacityBytes":"512"}'), 400, 'VALIDATION_FAILED'],
    ['with a bad name', post('{"name":"A b","capacityBytes":512}'), 400, 'NAME_INVALID'],
  ])('%s is refused', async (_name, asked, status, code) => {
    const api = await ApiWorld.start();
    await api.refused('/disks', asked, status, code);
    expect((await api.get('/disks')).body.items).toEqual([]);
  });

  it('without length that is too large or of another type is refused, too', async () => {
    const api = await ApiWorld.start();
    const chunks = (text: string, count: number) =>
      new ReadableStream({
        start(controller) {
          for (let at = 0; at < count; at += 1) controller.enqueue(Buffer.from(text));
          controller.close();
        },
      });
    const large = { method: 'POST', headers: json, body: chunks(' '.repeat(65536), 40) };
    await api.refused('/disks', large, 413, 'BODY_TOO_LARGE');
    const text = { 'content-type': 'text/plain' };
    const other = { method: 'POST', headers: text, body: chunks('x', 3) };
    await api.refused('/disks', other, 415, 'MEDIA_TYPE_UNSUPPORTED');
  });

  it('that is empty is no body, whatever its type', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    for (const type of ['application/json', 'application/x-www-form-urlencoded', 'foo']) {
      const flush = { method: 'POST', body: '', headers: { 'content-type': type } };
      expect(await api.ask('/disks/d1/flush', flush)).toMatchObject({ status: 204 });
    }
    const raw = new RawHttp(api.port);
    const headers = { 'transfer-encoding': 'chunked', 'content-type': 'text/plain' };
    raw.head('POST /v1/disks/d1/flush', headers);
    raw.send('0\r\n\r\n');
    expect(await raw.answer()).toMatchObject({ status: 204 });
    const empty = await api.ask('/disks/d1/flush', post('{}'));
    expect(empty.status).toBe(204);
  });

  it('where none belongs is refused', async () => {
    const api = await ApiWorld.start();
    await api.disk('d1');
    await api.refused('/disks/d1/flush', post('{"a":1}'), 400, 'VALIDATION_FAILED');
    const remove = { method: 'DELETE', json: { force: true } };
    await api.refused('/disks/d1', remove, 400, 'VALIDATION_FAILED');
  });

  it('that is cut off or too slow is refused', async () => {
    const api = await ApiWorld.start({ limits: { jsonBodyTimeoutMs: 50 } });
    for (const end of [true, false]) {
      const raw = new RawHttp(api.port);
      raw.head('POST /v1/disks', { ...json, 'content-length': 50 });
      raw.send('{"name":');
      if (end) raw.socket.end();
      expect((await raw.answer()).body).toMatchObject({ status: 400, code: 'BODY_TRUNCATED' });
    }
  });
});

describe('a problem', () => {
  it('tells kind, code, field and request', async () => {
    const api = await ApiWorld.start();
    const answer = await api.post('/disks', { name: 'a', capacityBytes: 512, labels: { a: 1 } });
    expect(answer.body).toEqual({
      type: 'urn:spindle:problem:validation-failed',
      title: 'The request does not fit its schema',
      status: 400,
      code: 'VALIDATION_FAILED',
      detail: 'labels/a must be string',
      retryable: false,
      field: 'labels/a',
      requestId: answer.headers.get('x-request-id'),
    });
  });

  it('hides what a bug says, and logs it with the request', async () => {
    const api = await ApiWorld.start();
    Object.assign(api.services.check, {
      quick: async () => Promise.reject(new AssertionError('secret inner thing')),
    });
    const problem = await api.refused('/check', {}, 500, 'INTERNAL');
    expect(JSON.stringify(problem)).not.toContain('secret');
    const line = api.logs.find((one) => one.includes('secret inner thing'));
    expect(line).toContain(problem.requestId);
  });

  it('comes when too many requests are in progress', async () => {
    const api = await ApiWorld.start({ limits: { requestsInFlight: 2 } });
    await api.disk('d1');
    const { body } = await api.post('/checks', undefined);
    await api.get(`/jobs/${body.id}`, { prefer: 'wait=5' });
    const slow = [1, 2].map(() => {
      const raw = new RawHttp(api.port);
      raw.head('PUT /v1/disks/d1/data', { 'content-length': 10 });
      return raw;
    });
    while (api.services.disks.get('d1').users().length < 2) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const answer = await api.get('/disks');
    expect(answer.body).toMatchObject({ code: 'TOO_MANY_REQUESTS', retryable: true });
    expect(answer.headers.get('retry-after')).toBe('1');
    for (const raw of slow) raw.send('0123456789');
    for (const raw of slow) expect(await raw.answer()).toMatchObject({ status: 204 });
    expect(await api.get('/disks')).toMatchObject({ status: 200 });
  });

  it('comes when too many bodies wait for memory', async () => {
    const limits = { bodyMemoryBytes: 5 * 1024 * 1024, waitingForMemory: 1 };
    const api = await ApiWorld.start({ limits });
    await api.disk('d1');
    const length = 4 * 1024 * 1024;
    const begin = () => {
      const raw = new RawHttp(api.port);
      raw.head('PUT /v1/disks/d1/data', { 'content-length': length });
      return raw;
    };
    const first = begin();
    first.send('x');
    while (api.services.disks.get('d1').users().length < 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const second = begin();
    while (api.services.disks.get('d1').users().length < 2) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const third = begin();
    expect(await third.answer()).toMatchObject({ status: 429 });
    second.send(Buffer.alloc(length));
    first.send(Buffer.alloc(length - 1));
    expect(await first.answer()).toMatchObject({ status: 204 });
    expect(await second.answer()).toMatchObject({ status: 204 });
  });

  it('comes while the service is not ready, but health is told', async () => {
    const api = await ApiWorld.start();
    for (const [state, code] of [
      ['recovering', 'RECOVERING'],
      ['stopping', 'SHUTTING_DOWN'],
    ] as const) {
      api.made.setState(state);
      await api.refused('/disks', {}, 503, code);
      await api.refused('//readyz', {}, 503, code);
      expect((await api.get('/disks')).headers.get('retry-after')).not.toBeNull();
      expect(await api.get('//healthz')).toMatchObject({ status: 200 });
      expect(await api.get('//metrics')).toMatchObject({ status: 200 });
    }
    api.made.setState('ready');
    expect(await api.get('//readyz')).toMatchObject({ status: 200 });
  });
});
