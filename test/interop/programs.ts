/**
 * Programs that a stranger would use. A test whose program is missing skips with that reason, but
 * never in CI: there all of them are installed.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'vitest';

export interface Ran {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Skips the test if one of them is not installed. */
export function needs({ skip }: TestContext, ...programs: readonly string[]): void {
  for (const program of programs) {
    const found = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
    if (found) continue;
    if (process.env.CI !== undefined) throw new Error(`${program} must be installed here`);
    skip(`${program} is not installed`);
  }
}

/** Runs a program to its end. */
export async function run(
  program: string,
  args: readonly string[],
  { cwd, env = {} }: RunOptions = {},
): Promise<Ran> {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, LC_ALL: 'C', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

/** Runs a program that must end well. @returns what it printed */
export async function output(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { status, stdout, stderr } = await run(program, args, options);
  const printed = stdout.toString();
  if (status === 0) return printed;
  throw new Error(`${program} ${args.join(' ')}: ${status ?? 'killed'}\n${printed}${stderr}`);
}
