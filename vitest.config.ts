/**
 * Two groups of tests: `fast` is `npm test`; `slow` (crash loops and real clients) joins in
 * `npm run test:all`.
 */
import { defineConfig } from 'vitest/config';

const shared = {
  pool: 'forks',
  testTimeout: 30_000,
  hookTimeout: 30_000,
  restoreMocks: true,
} as const;

const fast = ['unit', 'property', 'contract', 'api'].map((room) => `test/${room}/**/*.test.ts`);
const slow = ['crash', 'interop'].map((room) => `test/${room}/**/*.test.ts`);

export default defineConfig({
  test: {
    passWithNoTests: true,
    projects: [
      { test: { ...shared, name: 'fast', include: [...fast, 'test/*.test.ts'] } },
      { test: { ...shared, name: 'slow', include: slow, testTimeout: 300_000 } },
    ],
  },
});
