/**
 * Groups of tests: `fast` is `npm test`; `engine` and `slow` join in `npm run test:all`. `engine`
 * has the tests of the interface once more, over the real engine instead of fakes
 * (test/support/make-services.ts); `slow` has crash loops, real clients and what takes long.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// The threads and daemons that tests start by the hundred load the same files each time.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, 'node_modules', '.compile-cache');

const shared = {
  pool: 'forks',
  testTimeout: 30_000,
  hookTimeout: 30_000,
  restoreMocks: true,
} as const;

const fast = ['unit', 'property', 'contract', 'api'].map((room) => `test/${room}/**/*.test.ts`);
/** Long ones of the other rooms: `npm test` is to take less than five minutes on two cores. */
const long = [
  'test/api/limits.test.ts',
  'test/api/slow-clients.test.ts',
  'test/property/allocator.test.ts',
  'test/property/backup-chains.test.ts',
  'test/property/chain.test.ts',
  'test/property/cut.test.ts',
  'test/property/dedicated.test.ts',
  'test/property/difference.test.ts',
  'test/property/engine.test.ts',
  'test/property/group-cut.test.ts',
  'test/property/storm.test.ts',
  'test/property/tape-damage.test.ts',
  'test/property/tape.test.ts',
  'test/unit/absent-pool.test.ts',
  'test/unit/backup/chain-cuts.test.ts',
  'test/unit/backup/chain-restores.test.ts',
  'test/unit/backup/changer-work.test.ts',
  'test/unit/backup/copy-data.test.ts',
  'test/unit/backup/group-work.test.ts',
  'test/unit/backup/held-names.test.ts',
  'test/unit/backup/incremental.test.ts',
  'test/unit/backup/large-increment.test.ts',
  'test/unit/backup/lost-images.test.ts',
  'test/unit/backup/restore.test.ts',
  'test/unit/backup/retention-job.test.ts',
  'test/unit/backup/room-and-force.test.ts',
  'test/unit/backup/tape-chains.test.ts',
  'test/unit/backup/tape-groups.test.ts',
  'test/unit/backup/tape-retention.test.ts',
  'test/unit/backup/tape-trouble.test.ts',
  'test/unit/backup/tape-work.test.ts',
  'test/unit/backup/upload.test.ts',
  'test/unit/daemon.test.ts',
  'test/unit/image/damaged-vectors.test.ts',
  'test/unit/image/restore-chain.test.ts',
  'test/unit/image/restore-program.test.ts',
  'test/unit/image/salvage.test.ts',
  'test/unit/meta/meta.test.ts',
  'test/unit/pool/older-metadata.test.ts',
  'test/unit/pool/pool-files-life.test.ts',
  'test/unit/schedule/schedules.test.ts',
  'test/unit/tape/damage.test.ts',
  'test/unit/tape/tap-file.test.ts',
  'test/unit/tape/tape-program.test.ts',
  'test/unit/target/tape-rescan.test.ts',
  'test/unit/target/tape-target.test.ts',
];
const slow = [...['crash', 'interop'].map((room) => `test/${room}/**/*.test.ts`), ...long];

export default defineConfig({
  test: {
    passWithNoTests: true,
    globalSetup: 'test/support/built.ts',
    // one more than there are cores: many tests wait for something
    maxWorkers: availableParallelism() + 1,
    projects: [
      { test: { ...shared, name: 'fast', include: [...fast, 'test/*.test.ts'], exclude: long } },
      {
        test: {
          ...shared,
          name: 'engine',
          include: ['test/api/**/*.test.ts'],
          env: { SPINDLE_TEST_OVER: 'engine' },
        },
      },
      { test: { ...shared, name: 'slow', include: slow, testTimeout: 300_000 } },
    ],
  },
});
