/**
 * Where the files of this package are, whether it runs from src/ or from dist/.
 *
 * scripts/bundle.mjs puts all modules into a few files directly in dist/, so an address relative to
 * a module means something else there: no other module builds one.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const isBundled = !import.meta.url.endsWith('.ts');
const root = new URL(isBundled ? '../' : '../../', import.meta.url);

/** A file or folder of the package, by its path beside src/ and dist/. */
export function packageFile(path: string): URL {
  return new URL(path, root);
}

/** What a JSON file of the package says; read once. */
export function packageJson(path: string): unknown {
  return createRequire(import.meta.url)(fileURLToPath(packageFile(path)));
}

/**
 * What a thread runs.
 *
 * @param module in src/ and without its ending, as `meta/worker`; one of the entries of
 *   scripts/bundle.mjs
 */
export function threadUrl(module: string): URL {
  const file = isBundled ? `./${module.replaceAll('/', '-')}.js` : `../${module}.ts`;
  return new URL(file, import.meta.url);
}
