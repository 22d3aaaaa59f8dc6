import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const filler = join(import.meta.dirname, '../support/metadata-filler.ts');

/** Runs a command in a mount namespace of its own, with an empty file system of 40 MiB. */
function inSmallFileSystem(command: readonly string[]): { status: number | null; stdout: string } {
  const directory = mkdtempSync(join(tmpdir(), 'meta-full-'));
  const script = 'mount -t tmpfs -o size=40m tmpfs "$1" && shift && exec "$@"';
  const [name = 'true', ...parameters] = command.map((word) => word.replace('%', directory));
  const shell = ['sh', '-c', script, 'sh', directory, name, ...parameters];
  try {
    return spawnSync('unshare', ['--map-root-user', '--mount', ...shell], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  } finally {
    rmdirSync(directory);
  }
}

const canMount = inSmallFileSystem(['true']).status === 0;

it.skipIf(!canMount)(
  'a file system that is really full (needs user namespaces) refuses growth and takes deletes',
  () => {
    const { status, stdout } = inSmallFileSystem([process.execPath, filler, '%']);
    expect(status).toBe(0);
    const found = JSON.parse(stdout) as { pages: number };
    expect(found.pages).toBeGreaterThan(1000);
    expect(found).toEqual({
      pages: found.pages,
      reserveBefore: true,
      reserveWhenFull: false,
      lastWhenFull: found.pages - 1,
      overwrites: true,
      deletes: true,
      growsAgain: true,
      findings: [],
      cleanBefore: true,
      first: 8,
    });
  },
);
