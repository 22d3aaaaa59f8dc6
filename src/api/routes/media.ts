/** /v1/targets/{target}/media and what hands do with cartridges */
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, noContent, operation, path } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { answerPost } from '../reply.ts';
import { StorageError } from '../../base/errors.ts';
import { forceQuery, query, refTo, text } from '../schemas/fields.ts';
import {
  AddMediumSchema,
  LabelMediumSchema,
  LibrarySchema,
  LoadMediumSchema,
  MediumListSchema,
  MediumQuery,
  MediumSchema,
  UnloadQuery,
} from '../schemas/medium.ts';
import { libraryView, mediumView } from '../views.ts';
import type { Media, Medium } from '../work-services.ts';

const tag = 'targets';
const params = path('target', 'Name or id of the target.');

export function mediaRoutes(app: ApiInstance, context: ApiContext): void {
  addReading(app, context);
  addMaking(app, context);
  addMoving(app, context);
  addUnloading(app, context);
  addLibrary(app, context);
  addForgetting(app, context);
}

function addReading(app: ApiInstance, { services }: ApiContext): void {
  app.get('/targets/:target/media', {
    schema: operation(
      {
        operationId: 'listMedia',
        tag,
        summary: 'List the cartridges of a target on tape',
        ok: { 200: json(MediumListSchema, 'Cartridges of which anything is known.') },
      },
      { params, querystring: MediumQuery },
    ),
    handler: async (request) => {
      const found = await services.targets.media(request.params.target).list();
      // Labelled ones by their UUID, the others behind them by name.
      const sorted = found.map((medium) => {
        const name = medium.cartridge ?? medium.barcode ?? `slot:${medium.slot ?? ''}`;
        return { id: medium.volumeId ?? `~${name}`, medium };
      });
      return pageOf('media', sorted, request.query, { view: ({ medium }) => mediumView(medium) });
    },
  });
  app.get('/targets/:target/media/:medium', {
    schema: operation(
      {
        operationId: 'getMedium',
        tag,
        summary: 'Show a cartridge',
        ok: { 200: json(MediumSchema, 'The cartridge.') },
      },
      { params: mediumParams() },
    ),
    handler: async (request) => {
      const { target, medium } = request.params;
      return mediumView(await services.targets.media(target).get(medium));
    },
  });
}

function addLibrary(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get('/targets/:target/changer', {
    schema: operation(
      {
        operationId: 'getChanger',
        tag,
        summary: 'Show what the changer of a target has in its drives and slots',
        ok: { 200: json(LibrarySchema, 'Drives and slots.') },
      },
      { params },
    ),
    handler: async (request) =>
      libraryView(await services.targets.media(request.params.target).library()),
  });
  const moves = [
    ['export', 'exportMedium', 'Have the changer move a cartridge to an import/export slot'],
    ['import', 'importMedium', 'Have the changer move a cartridge from there into a slot'],
  ] as const;
  for (const [move, operationId, summary] of moves) {
    app.post(`/targets/:target/media/:medium/${move}`, {
      schema: operation(
        {
          operationId,
          tag,
          summary,
          ok: { 200: json(MediumSchema, 'The cartridge as it is now.') },
        },
        { params: mediumParams() },
        keyHeader,
      ),
      handler: (request, reply) =>
        answerPost<Medium>(context, request, reply, {
          run: () => services.targets.media(request.params.target)[move](request.params.medium),
          describe: (medium) => ({ status: 200, headers: {}, body: mediumView(medium) }),
        }),
    });
  }
}

function addForgetting(app: ApiInstance, { services }: ApiContext): void {
  app.delete('/targets/:target/media/:medium', {
    schema: operation(
      {
        operationId: 'forgetMedium',
        tag,
        summary: 'Give a cartridge up as lost',
        description:
          'What is on it is lost and not waited for any more; a scan brings it back. With ' +
          'backups on it it needs `force`.',
        ok: { 204: noContent('The catalog has it no more.') },
      },
      { params: mediumParams(), querystring: query({ ...forceQuery }) },
    ),
    handler: async (request, reply) => {
      const { target, medium } = request.params;
      const { force = false } = request.query;
      await services.targets.media(target).forget(medium, { force });
      return reply.code(204).send();
    },
  });
}

function addMaking(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/targets/:target/media', {
    schema: hands('addMedium', 'Add a blank cartridge to a virtual library', AddMediumSchema, 201),
    handler: (request, reply) => {
      const { cartridge, sizeBytes } = request.body;
      const { target } = request.params;
      return answerPost<Medium>(context, request, reply, {
        run: () => services.targets.media(target).add(cartridge, sizeBytes),
        describe: (medium) => ({
          status: 201,
          headers: { location: `/v1/targets/${target}/media/${cartridge}` },
          body: mediumView(medium),
        }),
      });
    },
  });
  app.post('/targets/:target/label', {
    schema: hands(
      'labelMedium',
      'Label the cartridge in the drive as the next one of the set',
      LabelMediumSchema,
      201,
    ),
    handler: (request, reply) => {
      const { expiresAt, ...rest } = request.body;
      const { target } = request.params;
      const times = expiresAt === undefined ? {} : { expiresAtMs: Date.parse(expiresAt) };
      return answerPost<Medium>(context, request, reply, {
        run: () => services.targets.media(target).label({ ...rest, ...times }),
        describe: (medium) => ({
          status: 201,
          headers: { location: `/v1/targets/${target}/media/${medium.label ?? ''}` },
          body: mediumView(medium),
        }),
      });
    },
  });
}

function addMoving(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.post('/targets/:target/load', {
    schema: hands('loadMedium', 'Put a cartridge into the drive', LoadMediumSchema, 200),
    handler: (request, reply) => {
      const { medium: name, slot } = request.body;
      if ((name === undefined) === (slot === undefined)) {
        const message = 'give one of medium and slot';
        throw new StorageError('VALIDATION_FAILED', message, { field: 'medium' });
      }
      const ref = name ?? `slot:${slot ?? 0}`;
      return answerPost<Medium>(context, request, reply, {
        run: () => services.targets.media(request.params.target).load(ref),
        describe: (medium) => ({ status: 200, headers: {}, body: mediumView(medium) }),
      });
    },
  });
}

function addUnloading(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  const empty = { 204: noContent('The drive is empty.') };
  app.post('/targets/:target/unload', {
    schema: operation(
      {
        operationId: 'unloadMedium',
        tag,
        summary: 'Take the cartridge out of the drive, into a slot',
        description:
          'A changer puts it back where it came from, or into a free slot; or into the `slot` ' +
          'that is asked for.',
        ok: empty,
      },
      { params, querystring: UnloadQuery },
      keyHeader,
    ),
    handler: (request, reply) =>
      answerPost<undefined>(context, request, reply, {
        run: () => unload(services.targets.media(request.params.target), request.query.slot),
        describe: () => ({ status: 204, headers: {}, body: undefined }),
      }),
  });
  app.post('/targets/:target/eject', {
    schema: operation(
      {
        operationId: 'ejectMedium',
        tag,
        summary: 'Take the cartridge out of the drive and the library',
        description:
          'Out of a virtual library: on the shelf. A changer puts it into an import/export slot.',
        ok: empty,
      },
      { params },
      keyHeader,
    ),
    handler: (request, reply) =>
      answerPost<undefined>(context, request, reply, {
        run: async () => {
          await services.targets.media(request.params.target).unload('shelf');
          return undefined;
        },
        describe: () => ({ status: 204, headers: {}, body: undefined }),
      }),
  });
}

async function unload(media: Media, slot: number | undefined): Promise<undefined> {
  await media.unload('slot', slot);
  return undefined;
}

function hands<T extends TSchema>(
  operationId: string,
  summary: string,
  body: T,
  status: 200 | 201,
) {
  return operation(
    {
      operationId,
      tag,
      summary,
      ok: { [status]: json(MediumSchema, 'The cartridge as it is now.') },
    },
    { params, body: refTo(body) },
    keyHeader,
  );
}

function mediumParams() {
  return Type.Unsafe<{ target: string; medium: string }>(
    Type.Object({
      target: text('Name or id of the target.', { maxLength: 255 }),
      medium: text('Label, barcode, name of the cartridge, id, or `slot:NUMBER`.', {
        maxLength: 255,
      }),
    }),
  );
}
