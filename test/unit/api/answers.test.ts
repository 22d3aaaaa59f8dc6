import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { answerClientError } from '../../../src/api/answers.ts';

/** What a client reads when the server meets this error on its connection. */
async function answerTo(code: string): Promise<string> {
  const server = createServer((socket) => {
    answerClientError(Object.assign(new Error('it'), { code }), socket, 'r-1');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
  });
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  return text(socket);
}

describe('a connection that is no HTTP', () => {
  it.each([
    ['ERR_HTTP_REQUEST_TIMEOUT', 408, 'REQUEST_TIMEOUT'],
    ['HPE_HEADER_OVERFLOW', 431, 'HEADERS_TOO_LARGE'],
    ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 413, 'BODY_TOO_LARGE'],
    ['HPE_INVALID_METHOD', 400, 'REQUEST_MALFORMED'],
  ])('with %s gets a whole answer', async (error, status, code) => {
    const [head = '', body = ''] = (await answerTo(error)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(head).toContain('content-type: application/problem+json');
    expect(head).toContain('x-request-id: r-1');
    expect(head).toContain(`content-length: ${Buffer.byteLength(body)}`);
    expect(JSON.parse(body)).toMatchObject({ status, code, requestId: 'r-1' });
  });

  it('that was reset gets none', async () => {
    expect(await answerTo('ECONNRESET')).toBe('');
  });
});
