/**
 * Compiles src/ into dist/, always (`npm run build`) or only when something is newer (start.mjs).
 *
 * dist/.stamp carries the time at which the last good build began, so an edit during a build
 * makes the next one. The times of folders count too: a deleted or renamed file is a change.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const stamp = join(dist, '.stamp');
const inputs = ['src', 'migrations', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];

/** Time of the newest file or folder at or below `path`; 0 if there is none. */
function newestMs(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  const below = readdirSync(path).map((name) => newestMs(join(path, name)));
  return Math.max(stat.mtimeMs, ...below);
}

/** True if dist/ is missing or older than anything it is made of. An image without src/ is not. */
export function isStale() {
  if (!existsSync(join(root, 'src'))) return false;
  const builtMs = statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return inputs.some((input) => newestMs(join(root, input)) > builtMs);
}

/** Exit code of the compiler; 0 when dist/ is whole. */
export function build() {
  const began = new Date();
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  if (!existsSync(compiler)) {
    console.error('spindle: the compiler is missing; run `npm ci` (with dev dependencies) first');
    return 1;
  }
  rmSync(dist, { recursive: true, force: true });
  const args = [compiler, '-p', join(root, 'tsconfig.build.json')];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) return status ?? 1;
  writeFileSync(stamp, '');
  utimesSync(stamp, began, began);
  return 0;
}

if (process.argv[1] === import.meta.filename) process.exitCode = build();
