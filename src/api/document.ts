/**
 * The OpenAPI document without a running service.
 */
import { pino } from 'pino';
import { StorageError } from '../base/errors.ts';
import { buildApp } from './app.ts';
import type { Services } from './services.ts';

function none(): never {
  throw new StorageError('RECOVERING', 'there are no services, only a document');
}

/** Not there yet: enough for the document, and for answering 503 while the pools are opened. */
export const absentServices: Services = {
  get pools() {
    return none();
  },
  get disks() {
    return none();
  },
  get copies() {
    return none();
  },
  get groups() {
    return none();
  },
  get images() {
    return none();
  },
  get targets() {
    return none();
  },
  get backups() {
    return none();
  },
  get restores() {
    return none();
  },
  get retention() {
    return none();
  },
  get schedules() {
    return none();
  },
  get jobs() {
    return none();
  },
  get check() {
    return none();
  },
  get records() {
    return none();
  },
  state: () => 'recovering',
};

/** OpenAPI 3.1 of this version. */
export async function makeDocument(version: string): Promise<object> {
  const logger = pino({ level: 'silent' });
  const app = await buildApp({ services: absentServices, logger, version });
  await app.ready();
  const document = app.swagger();
  await app.close();
  return document;
}
