/**
 * A task over a snapshot that never ends by itself.
 */
export function* run(): Generator<{ done: number; total: number }> {
  for (;;) yield { done: 1, total: 2 };
}
