/**
 * The stand-alone restore program for tests: each test gets a folder of its own to run it in.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';

const program = join(import.meta.dirname, '..', '..', 'tools', 'spindle-restore.py');

/** Runs the program many times in one process: arguments by line, `status N` after each. */
const driver = `
import importlib.util, sys
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location('restore', sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin.read().splitlines():
    print('status', module.main(line.split()))
`;

export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Verdict {
  readonly status: number;
  readonly lost: { sourceOffset: number; length: number; exact: boolean }[];
}

export interface RestoreProgram {
  readonly folder: () => string;
  readonly run: (args: readonly string[], input?: Buffer) => Ended;
  /** One run for each line of arguments without spaces, all in one process. */
  readonly runAll: (lines: readonly string[]) => Verdict[];
  /** Writes a file in the folder of this test. */
  readonly put: (name: string, bytes: Buffer) => string;
  readonly restored: (name?: string) => Buffer;
}

/** Call it once in a test file. */
export function restoreProgram(): RestoreProgram {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'spindle-restore-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });
  const python = (args: readonly string[], input?: Buffer): Ended => {
    const options = { cwd: folder, encoding: 'utf8', ...(input && { input }) } as const;
    const { status, stdout, stderr } = spawnSync('python3', args, options);
    return { status, out: stdout, err: stderr };
  };
  return {
    folder: () => folder,
    run: (args, input) => python([program, ...args], input),
    runAll: (lines) => {
      const { status, out, err } = python(['-c', driver, program], Buffer.from(lines.join('\n')));
      expect(status, err).toBe(0);
      const parts = out.split(/status (\d)\n/);
      return lines.map((_, index) => verdictOf(parts.slice(2 * index, 2 * index + 2)));
    },
    put: (name, bytes) => {
      writeFileSync(join(folder, name), bytes);
      return name;
    },
    restored: (name = 'disk.raw') => readFileSync(join(folder, name)),
  };
}

function verdictOf([text = '', code]: string[]): Verdict {
  const lost = [...text.matchAll(/^lost: offset (\d+), (\d+) bytes? \((\w+)\)$/gm)].map(
    (found) => ({
      sourceOffset: Number(found[1]),
      length: Number(found[2]),
      exact: found[3] === 'exact',
    }),
  );
  return { status: Number(code), lost };
}
