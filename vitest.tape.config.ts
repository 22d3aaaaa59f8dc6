/**
 * `npm run test:tape`: the tests that need a tape drive. They fail without one.
 *
 * The drive is SPINDLE_TEST_TAPE (default /dev/nst0). Because they let cartridges fail and change
 * them, it is one of an emulated library, steered over HTTP at SPINDLE_TEST_TAPE_CONTROL (default
 * http://127.0.0.1:3261). One at a time: there is one drive.
 */
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// Where JavaScript is slow, compiling the sources at each start of a daemon is most of its time.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules', '.compile-cache');

export default defineConfig({
  test: {
    name: 'tape',
    include: ['test/tape/**/*.test.ts'],
    globalSetup: 'test/support/built.ts',
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 120_000,
  },
});
