/** The inference API without a socket: requests to it, and an engine whose answer is fixed. */

import { chatOf } from '../../src/data/chat.ts'
import { utf8 } from '../../src/lib/bytes.ts'
import { type Api, createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import type { Backend, ServingEngine } from '../../src/serving/engine.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { isTokenPrompt, type Prompt } from '../../src/serving/openai.ts'
import type { Vocabulary } from '../../src/serving/vocabulary.ts'
import type { Log } from '../../src/telemetry/log.ts'

const KEY = 'k'.repeat(32)
const HOST = '127.0.0.1:8080'
/** The time of every answer, Unix seconds. */
const NOW = 1_800_000_000
export const WORDS = ['The ', 'quick ', 'brown ', 'fox ', 'END', ' jumps']

/** Tokens are characters; that of 0 is special. */
export const CHARACTERS: Vocabulary = {
  nameOf: (id) => (id === 0 ? '<|endoftext|>' : String.fromCharCode(id)),
  bytesOf: (id) => utf8(id === 0 ? '' : String.fromCharCode(id)),
  decode: (ids) => Array.from(ids, (id) => (id === 0 ? '' : String.fromCharCode(id))).join(''),
  decodeStream: () => ({
    push: (id) => (id === 0 ? '' : String.fromCharCode(id)),
    flush: () => '',
  }),
}

/** A backend with one engine. */
export function backendOf(engine: ServingEngine, servedBy: Backend['servedBy'] = 'node'): Backend {
  return { servedBy, acquire: () => engine }
}

/** Answers with the six words, of which the second expert carries three quarters. A token is a character. */
export function fixedEngine(change: Partial<ServingEngine> = {}): ServingEngine {
  return {
    composition: `sha256:${'a'.repeat(64)}`,
    experts: [
      { institution: 'public model', expert: 'public' },
      { institution: 'Alpha', expert: 'law' },
    ],
    stated: [
      { institution: 'public model', expert: 'public' },
      {
        institution: 'Alpha',
        expert: 'law',
        package: `sha256:${'b'.repeat(64)}`,
        privacy: { mechanism: 'none' },
      },
    ],
    contextLength: 32,
    maxPromptCharacters: 1000,
    vocabularySize: 65_536,
    vocabulary: CHARACTERS,
    turnEnds: [],
    encode: async (prompt) => Int32Array.from(`\0${textOf(prompt)}`, (c) => c.charCodeAt(0)),
    checkSelection: () => undefined,
    generate: async function* ({ maxTokens }) {
      for (const text of WORDS.slice(0, maxTokens)) yield { text, shares: Float32Array.of(0.25, 0.75) }
    },
    embed: async (_, prompt) => Float32Array.of(prompt.length, 0, 1),
    release: () => undefined,
    ...change,
  }
}

/** The text of a completion, or the roles and texts of a chat, one message on a line. */
export function textOf(prompt: Prompt): string {
  if (typeof prompt === 'string') return prompt
  if (isTokenPrompt(prompt)) return String.fromCharCode(...prompt.tokens)
  const { messages } = chatOf(prompt)
  return messages.map(({ role, content }) => `${role}: ${content}`).join('\n')
}

export function appOf(backend: Backend = backendOf(fixedEngine()), log?: Log): Api {
  return createApp({
    backendFor: () => backend,
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => isLoopbackHost(host, 8080),
    now: () => NOW,
    ...(log === undefined ? {} : { log }),
  })
}

interface PostOptions {
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

/** @param body an object is sent as JSON for the model of the API, a text or a stream unchanged */
export async function post(
  app: Api,
  body: object | string | ReadableStream<Uint8Array>,
  { path = '/v1/completions', headers, signal }: PostOptions = {},
): Promise<Response> {
  const init = {
    method: 'POST',
    headers: { ...ACCESS, 'content-type': 'application/json', ...headers },
    body:
      typeof body === 'string' || body instanceof ReadableStream
        ? body
        : JSON.stringify({ model: 'flexmesh', ...body }),
    // A request whose body is a stream must say that its answer may come after the whole body only.
    duplex: 'half' as const,
    ...(signal === undefined ? {} : { signal }),
  }
  return app.request(`http://${HOST}${path}`, init, {})
}

export const ACCESS = { host: HOST, authorization: `Bearer ${KEY}` }

/** @param name asks for one model instead of the list */
export async function getModels(app: Api, name?: string): Promise<Response> {
  return app.request(
    `http://${HOST}/v1/models${name === undefined ? '' : `/${name}`}`,
    { headers: ACCESS },
    {},
  )
}

/** Status and error code of a refusal. */
export async function refusalOf(response: Response): Promise<[status: number, code: string]> {
  const { error } = (await response.json()) as { error: { code: string } }
  return [response.status, error.code]
}

/** Data of each event of a streamed answer. */
export function eventsOf(text: string): string[] {
  return text
    .split('\n\n')
    .filter(Boolean)
    .map((event) => event.replace('data: ', ''))
}
