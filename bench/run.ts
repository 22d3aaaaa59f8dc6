/**
 * `npm run bench`: runs every bench program, one after the other, and prints their JSON lines.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const scratch = mkdtempSync(join(process.env['BENCH_DIR'] ?? tmpdir(), 'spindle-bench-'));
const programs: readonly (readonly string[])[] = [
  ['backup.ts'],
  ['incremental.ts'],
  ['memory.ts'],
  ['many-blocks.ts', join(scratch, 'many')],
  ['groups.ts', join(scratch, 'groups')],
  ['metadata-pages.ts'],
  ['metadata-commits.ts'],
  ['target-write.ts'],
  ['tape.ts'],
];
let failed = 0;
for (const [program = '', ...parameters] of programs) {
  process.stdout.write(`${JSON.stringify({ bench: program })}\n`);
  const path = join(import.meta.dirname, program);
  const { status } = spawnSync(process.execPath, [path, ...parameters], { stdio: 'inherit' });
  if (status !== 0) failed += 1;
}
rmSync(scratch, { recursive: true, force: true });
process.exit(failed === 0 ? 0 : 1);
