import { expect, it } from 'vitest';
import { Closers } from '../../../src/daemon/closers.ts';

function recorded(): { closers: Closers; done: string[]; failures: string[]; run: () => unknown } {
  const closers = new Closers();
  const [done, failures]: [string[], string[]] = [[], []];
  const run = (): Promise<boolean> =>
    closers.closeAll((name, error) => {
      if (error === undefined) return;
      failures.push(`${name}: ${(error as Error).message}`);
    });
  return { closers, done, failures, run };
}

it('what was opened last is closed first', async () => {
  const { closers, done, run } = recorded();
  for (const name of ['directory', 'database', 'pools']) {
    closers.add(name, 1000, async () => {
      done.push(name);
    });
  }
  expect(await run()).toBe(true);
  expect(done).toEqual(['pools', 'database', 'directory']);
});

it('a close that fails is told, and the others are closed all the same', async () => {
  const { closers, done, failures, run } = recorded();
  closers.add('directory', 1000, async () => {
    done.push('directory');
  });
  closers.add('pools', 1000, () => Promise.reject(new Error('EIO')));
  expect(await run()).toBe(false);
  expect(failures).toEqual(['pools: EIO']);
  expect(done).toEqual(['directory']);
});

it('a close that hangs is left alone after its time', async () => {
  const { closers, done, failures, run } = recorded();
  closers.add('directory', 1000, async () => {
    done.push('directory');
  });
  closers.add('pools', 10, () => new Promise(() => undefined));
  expect(await run()).toBe(false);
  expect(failures).toEqual(['pools: it takes more than 10 ms']);
  expect(done).toEqual(['directory']);
});

it('a second closing has nothing to close', async () => {
  const { closers, done, run } = recorded();
  closers.add('pools', 1000, async () => {
    done.push('pools');
  });
  await run();
  expect(await run()).toBe(true);
  expect(done).toEqual(['pools']);
});
