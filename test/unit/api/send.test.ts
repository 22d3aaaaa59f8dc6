/** Answers that cannot be sent to their end. */
import Fastify from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { sendBytes } from '../../../src/api/send.ts';
import { StorageError } from '../../../src/base/errors.ts';

it.each([
  ['is taken away by another request', 'DISK_FENCED', 'warn'],
  ['cannot be read', 'DATA_UNREADABLE', 'error'],
] as const)('an answer whose source %s is cut off: %s, logged as %s', async (_, code, level) => {
  const said: { level: string; code: unknown }[] = [];
  const app = Fastify({
    logger: {
      formatters: { level: (label) => ({ level: label }) },
      stream: {
        write: (line) => {
          const entry = JSON.parse(line) as { level: string; msg: string; err?: { code: string } };
          if (entry.msg !== 'an answer was cut off') return;
          said.push({ level: entry.level, code: entry.err?.code });
        },
      },
    },
  });
  onTestFinished(() => app.close());
  app.get('/', async (_request, reply) => {
    async function* slices(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(1024);
      throw new StorageError(code, 'no more');
    }
    const headers = { 'content-length': '4096' };
    const limits = { idleTimeoutMs: 1000 };
    await sendBytes(reply, { status: 200, headers }, slices(), { limits });
  });
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  const answer = await fetch(url);
  await expect(answer.arrayBuffer()).rejects.toThrow();
  expect(said).toEqual([{ level, code }]);
});
