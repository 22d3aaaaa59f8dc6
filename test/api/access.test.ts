import { describe, expect, it } from 'vitest';
import { ApiWorld } from '../support/api-world.ts';
import { RawHttp } from '../support/raw-http.ts';

const token = 'a-token-of-some-length';

describe('with a token', () => {
  it('every request of /v1 and /metrics needs it, unknown paths too', async () => {
    const api = await ApiWorld.start({ token });
    for (const [method, path] of [
      ['GET', '/v1/disks'],
      ['POST', '/v1/disks'],
      ['PUT', '/v1/disks/d1/data'],
      ['POST', '/v1/restores?method=remap&disk=x'],
      ['GET', '/v1/nothing'],
      ['PATCH', '/v1/disks'],
      ['GET', '/metrics'],
      ['HEAD', '/v1/disks'],
    ] as const) {
      for (const authorization of [
        '',
        `Basic ${token}`,
        'Bearer',
        'Bearer x',
        `Bearer ${token}x`,
      ]) {
        const headers: Record<string, string> = authorization === '' ? {} : { authorization };
        const answer = await api.ask(`/${path}`, { method, headers });
        expect(answer.status).toBe(401);
        expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="spindle"');
        if (method !== 'HEAD') expect(answer.body).toMatchObject({ code: 'UNAUTHORIZED' });
      }
      const headers = { authorization: `bearer ${token}` };
      expect((await api.ask(`/${path}`, { method, headers })).status).not.toBe(401);
    }
    expect(api.logs.join('')).not.toContain(token);
  });

  it('health and documents are open', async () => {
    const api = await ApiWorld.start({ token });
    for (const path of ['/healthz', '/readyz', '/openapi.json', '/openapi-3.0.json', '/docs/']) {
      expect(await api.get(`/${path}`)).toMatchObject({ status: 200 });
    }
  });

  it('any host may be named', async () => {
    const api = await ApiWorld.start({ token });
    const raw = new RawHttp(api.port);
    const headers = { host: 'storage.example', authorization: `Bearer ${token}` };
    raw.head('GET /v1/disks', headers);
    expect(await raw.answer()).toMatchObject({ status: 200 });
  });
});

describe('without a token', () => {
  it('names that were made to point here get nothing', async () => {
    const api = await ApiWorld.start();
    for (const [host, status] of [
      ['evil.example', 401],
      ['127.0.0.1.evil.example:80', 401],
      [`localhost:${api.port}`, 200],
      ['[::1]:8470', 200],
      ['127.1.2.3', 200],
    ] as const) {
      const raw = new RawHttp(api.port);
      raw.head('GET /v1/disks', { host });
      expect(await raw.answer()).toMatchObject({ status });
    }
  });

  it('pages of other origins get nothing, the own documents do', async () => {
    const api = await ApiWorld.start();
    const host = `127.0.0.1:${api.port}`;
    for (const [headers, status] of [
      [{ origin: 'http://evil.example' }, 401],
      [{ origin: 'null' }, 401],
      [{ 'sec-fetch-site': 'cross-site' }, 401],
      [{ origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }, 200],
    ] as const) {
      const raw = new RawHttp(api.port);
      raw.head('GET /v1/disks', { host, ...headers });
      expect(await raw.answer()).toMatchObject({ status });
    }
  });
});

describe('a request', () => {
  it('has an id in its answer and in the log, its own if it is one', async () => {
    const api = await ApiWorld.start();
    const given = await api.get('/disks', { 'x-request-id': 'mine-1' });
    expect(given.headers.get('x-request-id')).toBe('mine-1');
    const made = await api.get('/disks', { 'x-request-id': 'no id {' });
    expect(made.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    await api.get('/disks');
    const line = api.logs.find((one) => one.includes('mine-1')) ?? '{}';
    expect(JSON.parse(line)).toMatchObject({ method: 'GET', url: '/v1/disks', status: 200 });
  });
});
