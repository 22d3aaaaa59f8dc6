/**
 * The meta worker: the thread in which SQLite blocks, so that the engine's thread does not.
 *
 * It opens the database, says so, and then serves requests in the order of their arrival. After a
 * commit is answered it moves the WAL's content into the database when no message is at hand, or
 * at once if much has come together.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { assert, defined, unreachable } from '../base/assert.ts';
import { MetaDatabase } from './database.ts';
import type { DatabaseOptions } from './database.ts';
import { Maintenance } from './maintenance.ts';
import { Pages } from './pages.ts';
import { collectYoung } from '../base/memory.ts';
import { packError } from '../base/packed-error.ts';
import { MIB } from '../base/units.ts';
import type { Answer, Message, Reply, Request } from './protocol.ts';
import { deleteOlder, list } from './queries.ts';
import { Rows, growthBytes } from './rows.ts';

const COLLECT_EVERY_BYTES = 8 * MIB;

const port = defined(parentPort, 'parent port');

class Server {
  readonly #database: MetaDatabase;
  readonly #pages: Pages;
  readonly #rows: Rows;
  readonly #maintenance: Maintenance;
  /** Requests that are being served, beyond the turn in which they came. */
  readonly #serving = new Set<Promise<void>>();
  #checkpoint: NodeJS.Immediate | undefined;
  /** Bytes of committed pages whose buffers may not have been collected yet. */
  #takenBytes = 0;

  constructor(options: DatabaseOptions) {
    this.#database = MetaDatabase.open(options);
    this.#pages = new Pages(this.#database.db);
    this.#rows = new Rows(this.#database.db);
    this.#maintenance = new Maintenance(this.#database);
  }

  get opened(): Answer {
    const { storeId, epoch, cleanBefore } = this.#database;
    return { op: 'opened', storeId, epoch, cleanBefore };
  }

  /** Replies once, now or later. Never throws. */
  serve(message: Message): void {
    const served = this.#serve(message).finally(() => this.#serving.delete(served));
    this.#serving.add(served);
  }

  async #serve({ id, request }: Message): Promise<void> {
    try {
      const answer = this.#answer(request);
      reply({ id, answer: answer instanceof Promise ? await answer : answer });
    } catch (error) {
      reply({ id, error: packError(error) });
    }
    // messages can come so fast that there is no idle moment
    if (request.op === 'commit') this.#database.checkpoint('overdue');
    if (request.op === 'close') port.close();
  }

  /** Everything but copy, check and close has happened when this returns. */
  #answer(request: Request): Answer | Promise<Answer> {
    switch (request.op) {
      case 'commit':
        return this.#commit(request);
      case 'copy':
        return this.#maintenance.copyTo(request.path).then(() => ({ op: 'done' }));
      case 'check':
        return this.#maintenance
          .check(request.deep)
          .then((findings) => ({ op: 'findings', findings }));
      case 'delete-older': {
        const { table, olderThanMs, limit } = request;
        const erase = (): number => deleteOlder(this.#rows, table, olderThanMs, limit);
        return { op: 'number', value: this.#database.transaction(erase) };
      }
      case 'sum-bytes':
        return { op: 'number', value: this.#database.sumBytes() };
      case 'close':
        return this.#close();
      case 'read-pages':
      case 'last-page':
      case 'rows':
      case 'list':
        return this.#database.read(() => this.#read(request));
    }
  }

  #read(request: Extract<Request, { op: 'read-pages' | 'last-page' | 'rows' | 'list' }>): Answer {
    switch (request.op) {
      case 'read-pages': {
        const { pool, kind, numbers } = request;
        return { op: 'pages', pages: this.#pages.read(pool, kind, numbers) };
      }
      case 'last-page':
        return { op: 'number', value: this.#pages.last(request.pool, request.kind) };
      case 'rows':
        return { op: 'rows', rows: this.#rows.select(request.table, request.where) };
      case 'list':
        return { op: 'listing', listing: list(this.#rows, request.query, request.options) };
      default:
        return unreachable(request);
    }
  }

  #commit({ pages, rows }: Extract<Request, { op: 'commit' }>): Answer {
    const apply = (): void => {
      for (const packed of pages) this.#pages.apply(packed);
      for (const change of rows) this.#rows.apply(change);
    };
    const growth = (): number => {
      const ofRows = rows.reduce((sum, change) => sum + growthBytes(change), 0);
      return pages.reduce((sum, packed) => sum + this.#pages.growthBytes(packed), ofRows);
    };
    this.#database.transaction(apply, growth);
    this.#checkpointLater();
    for (const packed of pages) this.#takenBytes += packed.bytes.byteLength;
    return { op: 'done' };
  }

  #checkpointLater(): void {
    this.#checkpoint ??= setImmediate(() => {
      this.#checkpoint = undefined;
      this.#database.checkpoint('much');
      if (this.#takenBytes < COLLECT_EVERY_BYTES) return;
      this.#takenBytes = 0;
      collectYoung();
    });
  }

  async #close(): Promise<Answer> {
    this.#maintenance.stop();
    await Promise.all(this.#serving);
    clearImmediate(this.#checkpoint);
    this.#database.close();
    return { op: 'done' };
  }
}

function reply(message: Reply): void {
  const pages = 'answer' in message && message.answer.op === 'pages' ? message.answer.pages : [];
  const buffers = pages.filter((page) => page !== undefined).map((page) => page.buffer);
  port.postMessage(message, buffers);
}

function start(options: DatabaseOptions): void {
  let server: Server;
  try {
    server = new Server(options);
  } catch (error) {
    reply({ id: 0, error: packError(error) });
    return;
  }
  port.on('message', (message: Message) => {
    server.serve(message);
  });
  reply({ id: 0, answer: server.opened });
}

function isOptions(data: unknown): data is DatabaseOptions {
  return typeof data === 'object' && data !== null && 'path' in data && 'migrationsDir' in data;
}

const options: unknown = workerData;
assert(isOptions(options), 'the meta worker needs its options');
start(options);
