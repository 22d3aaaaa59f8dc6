/** /v1/targets/{target}/media and what hands do with cartridges */
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, keyHeader, noContent, operation, path } from '../operation.ts';
import { pageOf } from '../pages.ts';
import { answerPost } from '../reply.ts';
import { forceQuery, query, refTo, text } from '../schemas/fields.ts';
import {
  AddMediumSchema,
  LabelMediumSchema,
  LoadMediumSchema,
  MediumListSchema,
  MediumQuery,
  MediumSchema,
} from '../schemas/medium.ts';
import { mediumView } from '../views.ts';
import type { Medium } from '../work-services.ts';

const tag = 'targets';
const params = path('target', 'Name or id of the target.');

export function mediaRoutes(app: ApiInstance, context: ApiContext): void {
  addReading(app, context);
  addMaking(app, context);
  addMoving(app, context);
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
        return { id: medium.volumeId ?? `~${medium.cartridge ?? ''}`, medium };
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
    schema: hands('loadMedium', 'Put a virtual cartridge into the drive', LoadMediumSchema, 200),
    handler: (request, reply) =>
      answerPost<Medium>(context, request, reply, {
        run: () => services.targets.media(request.params.target).load(request.body.medium),
        describe: (medium) => ({ status: 200, headers: {}, body: mediumView(medium) }),
      }),
  });
  const out = [
    ['unload', 'unloadMedium', 'Take the cartridge out of the drive, into a slot', 'slot'],
    ['eject', 'ejectMedium', 'Take the cartridge out of the drive and the library', 'shelf'],
  ] as const;
  for (const [name, operationId, summary, to] of out) {
    app.post(`/targets/:target/${name}`, {
      schema: operation(
        { operationId, tag, summary, ok: { 204: noContent('The drive is empty.') } },
        { params },
        keyHeader,
      ),
      handler: (request, reply) =>
        answerPost<undefined>(context, request, reply, {
          run: async () => {
            await services.targets.media(request.params.target).unload(to);
            return undefined;
          },
          describe: () => ({ status: 204, headers: {}, body: undefined }),
        }),
    });
  }
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
      medium: text('Label, name of the cartridge, or id.', { maxLength: 255 }),
    }),
  );
}
