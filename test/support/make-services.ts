/**
 * The one place that decides what the tests of the interface run over: small fakes in memory, or
 * the real engine (vitest's project `engine` sets SPINDLE_TEST_OVER).
 */
import type { Services } from '../../src/api/services.ts';
import { engineServices } from './engine-services.ts';
import { fakeServices } from './fake-services.ts';

export interface MadeServices {
  readonly services: Services & { readonly records: { failNextCommit(error: Error): void } };
  /** What `state()` answers from now on. */
  setState(state: ReturnType<Services['state']>): void;
}

/** For the few tests that only one of the two can have. */
export const isOverEngine = process.env.SPINDLE_TEST_OVER === 'engine';

/** With a pool `default` of 1 GiB. */
export async function makeServices(): Promise<MadeServices> {
  if (isOverEngine) return engineServices();
  const services = await fakeServices();
  return {
    services,
    setState(state) {
      services.currentState = state;
    },
  };
}
