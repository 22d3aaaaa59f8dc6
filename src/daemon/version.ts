/**
 * The version of the program, from package.json.
 */
import { assert } from '../base/assert.ts';
import { packageJson } from '../base/package-files.ts';

export function packageVersion(): string {
  const about = packageJson('package.json');
  const isObject = typeof about === 'object' && about !== null;
  assert(isObject && 'version' in about, 'package.json has no version');
  return String(about.version);
}
