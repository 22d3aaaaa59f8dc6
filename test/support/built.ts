/**
 * Before the tests: dist/ is what the sources say. Daemons in processes of their own are started
 * from it, as those of users are.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

/** What such a daemon runs. */
export const builtMain = join(root, 'dist', 'main.js');

export function setup(): void {
  const program = `
    const { build, isStale } = await import('./scripts/build.mjs');
    process.exitCode = isStale() ? build(false) : 0;`;
  const args = ['--input-type=module', '--eval', program];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) throw new Error('the build failed');
}
