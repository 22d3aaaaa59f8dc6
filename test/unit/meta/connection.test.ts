import { describe, expect, it } from 'vitest';
import { Worker } from 'node:worker_threads';
import type { StorageError } from '../../../src/base/errors.ts';
import { Connection } from '../../../src/meta/connection.ts';

/** A worker that answers `sum-bytes` with 7, and does to all else what the script says. */
function workerThat(script: string): Worker {
  const source = `
    const { parentPort } = require('node:worker_threads');
    parentPort.on('message', ({ id, request }) => {
      if (request.op !== 'sum-bytes') { ${script} }
      parentPort.postMessage({ id, answer: { op: 'number', value: 7 } });
    });`;
  return new Worker(source, { eval: true });
}

describe('a line to a worker', () => {
  it.each([
    ['throws', "throw new Error('out of luck')", 'out of luck'],
    ['exits', 'process.exit(3)', 'exit code 3'],
  ])(
    'that %s rejects what is pending and all later calls, and says so once',
    async (_, script, reason) => {
      const fatal: StorageError[] = [];
      const connection = new Connection(workerThat(script), (error) => fatal.push(error));
      expect(await connection.send({ op: 'sum-bytes' })).toEqual({ op: 'number', value: 7 });
      const calls = [
        connection.send({ op: 'check', deep: false }),
        connection.send({ op: 'copy', path: 'x' }),
      ];
      const settled = await Promise.allSettled(calls);
      expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
      await expect(connection.send({ op: 'sum-bytes' })).rejects.toMatchObject({
        code: 'INTERNAL',
      });
      await connection.exited();
      expect(fatal).toHaveLength(1);
      expect(fatal[0]).toMatchObject({ code: 'INTERNAL' });
      expect(fatal[0]?.details.reason).toContain(reason);
    },
  );

  it('that is abandoned rejects what is pending with SHUTTING_DOWN and calls nobody', async () => {
    const fatal: StorageError[] = [];
    const connection = new Connection(workerThat('return;'), (error) => fatal.push(error));
    const pending = expect(connection.send({ op: 'close' })).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
    await connection.abandon();
    await pending;
    await connection.exited();
    expect(fatal).toEqual([]);
  });
});
