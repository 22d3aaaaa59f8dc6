/**
 * The version of the program, from package.json beside src/ and dist/.
 */
import { createRequire } from 'node:module';
import { assert } from '../base/assert.ts';

export function packageVersion(): string {
  const packageJson: unknown = createRequire(import.meta.url)('../../package.json');
  const isObject = typeof packageJson === 'object' && packageJson !== null;
  assert(isObject && 'version' in packageJson, 'package.json has no version');
  return String(packageJson.version);
}
