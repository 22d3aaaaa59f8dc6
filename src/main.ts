/**
 * The process: settings, start, signals, exit code.
 *
 * SIGTERM, SIGINT and SIGHUP stop in good order; more of them change nothing. An error that nobody
 * caught, or a stop that takes too long, ends the process at once: what was acknowledged is durable
 * and the next start recovers by itself.
 *
 * Exit codes: 0 stopped in good order; 1 failure; 2 settings that cannot be used; 3 the data
 * directory belongs to another process.
 */
import { pino } from 'pino';
import { isStorageError } from './base/errors.ts';
import { ConfigError, loadConfig } from './config.ts';
import { Daemon } from './daemon.ts';

const STOP_MS = 30_000;

/** What a person should read, alone on a line. */
function refuse(error: unknown): never {
  process.stderr.write(`spindle: ${shownOf(error)}\n`);
  const isSetting = isStorageError(error) && error.details['setting'] !== undefined;
  if (error instanceof ConfigError || isSetting) process.exit(2);
  process.exit(isStorageError(error, 'STORE_LOCKED') ? 3 : 1);
}

/** With the code of docs/operations.md if it has one; with its stack if nobody expected it. */
function shownOf(error: unknown): string {
  if (isStorageError(error)) return `${error.code}: ${error.message}`;
  if (error instanceof ConfigError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

async function run(): Promise<void> {
  const config = loadConfig();
  const log = pino({ level: config.logLevel });
  const die = (error: unknown): never => {
    log.fatal({ err: error }, 'cannot go on');
    process.exit(1);
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
  const daemon = new Daemon({ config, log, onFatal: die });
  const stop = async (signal: string): Promise<void> => {
    log.info({ signal }, 'stopping');
    setTimeout(() => die(new Error(`stopping takes more than ${STOP_MS} ms`)), STOP_MS).unref();
    const isInOrder = await daemon.stop();
    log.info({ inOrder: isInOrder }, 'stopped');
    process.exit(isInOrder ? 0 : 1);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => void stop(signal));
  try {
    await daemon.start();
  } catch (error) {
    if (!isStorageError(error, 'SHUTTING_DOWN')) throw error;
  }
}

// files that the daemon makes are its own
process.umask(0o077);
run().catch(refuse);
