/**
 * Makes dist/ of src/, always (`npm run build`) or only when something is newer (start.mjs).
 *
 * dist/.stamp carries the time at which the last good build began, so an edit during a build
 * makes the next one. The times of folders count too: a deleted or renamed file is a change.
 *
 * A build is made beside dist/ and takes its place when it is whole: daemons that start or run
 * meanwhile see the old one or the new one, and two that build at once do not disturb each other.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const stamp = join(dist, '.stamp');
const inputs = ['src', 'migrations', 'scripts/bundle.mjs', 'package-lock.json', 'tsconfig.json'];

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

/**
 * Exit code of what failed; 0 when dist/ is whole.
 *
 * @param isChecked false: types are not checked, which takes a tenth of the time
 */
export function build(isChecked = true) {
  const began = new Date();
  const wasStale = isStale();
  const packages = join(root, 'node_modules');
  const compiler = join(packages, 'typescript', 'bin', 'tsc');
  if (!existsSync(compiler) || !existsSync(join(packages, 'rolldown'))) {
    console.error('spindle: the compiler is missing; run `npm ci` (with dev dependencies) first');
    return 1;
  }
  const made = mkdtempSync(join(root, 'dist-'));
  try {
    const status =
      (isChecked ? run(compiler, '-p', join(root, 'tsconfig.build.json')) : 0) ||
      run(join(import.meta.dirname, 'bundle.mjs'), made);
    if (status !== 0) return status;
    writeFileSync(join(made, '.stamp'), '');
    utimesSync(join(made, '.stamp'), began, began);
    // somebody else may have built the same meanwhile
    if (!wasStale || isStale()) putInPlace(made);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  return 0;
}

/** Exit code of a program of Node; what it says is shown. */
function run(...args) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
}

/** The build at `made` becomes dist/, unless somebody puts another one there at the same moment. */
function putInPlace(made) {
  const old = `${made}-old`;
  try {
    if (existsSync(dist)) renameSync(dist, old);
    renameSync(made, dist);
  } catch (error) {
    if (isStale()) throw error;
  } finally {
    rmSync(old, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) process.exitCode = build();
