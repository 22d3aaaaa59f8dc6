/**
 * Programs of the system that the demo uses as a stranger would.
 */
import { spawnSync } from 'node:child_process';

interface Ran {
  readonly status: number | null;
  /** What it printed, on both streams. */
  readonly output: string;
}

/** Runs a program to its end. @returns undefined if it is not installed */
export function run(program: string, args: readonly string[]): Ran | undefined {
  // administrators' programs are not in everybody's PATH
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  const ran = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH, LC_ALL: 'C' },
  });
  if (ran.error !== undefined) return undefined;
  return { status: ran.status, output: `${ran.stdout}${ran.stderr}` };
}
