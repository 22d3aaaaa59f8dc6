/**
 * A client in another language that was written from the description alone.
 */
import { join } from 'node:path';
import { it } from 'vitest';
import { needs, output } from './programs.ts';
import { Served } from './served.ts';

it('Python goes through the whole session by its standard library', async (test) => {
  needs(test, 'python3');
  const served = await Served.start();
  const program = join(import.meta.dirname, 'session.py');
  await output('python3', [program, new URL(served.url).origin]);
});
