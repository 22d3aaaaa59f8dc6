/**
 * Where a worker thread's file is: beside its starter, `.ts` from source and `.js` when built.
 */
export function workerUrl(base: string, name: string): URL {
  return new URL(`${name}${base.endsWith('.ts') ? '.ts' : '.js'}`, base);
}
