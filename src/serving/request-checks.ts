/**
 * Checks of a request against the backend that will answer it: the selection of experts, token ids, and the length of the
 * prompt. Implements the checks of protocols/inference-api, section "Order of work". Does not know HTTP and queues.
 */
import { InputError } from '../lib/errors.ts'
import type { Backend, ServingEngine } from './engine.ts'
import {
  type InferenceRequest,
  isTokenPrompt,
  type Prompt,
  type RequestKind,
  type TokenPrompt,
} from './openai.ts'
import { Refusal } from './problem.ts'
import { promptCharacters } from './prompt.ts'
import { bad } from './request-fields.ts'

/** The routes that generate text. */
export type Route = RequestKind | 'responses'

/** Members that hold the prompt. */
const PROMPT_MEMBER = { completion: 'prompt', chat: 'messages', responses: 'input' } as const

/** Refuses what can be refused before a request waits. @throws ServingError; Refusal. */
export async function precheck(backend: Backend, request: InferenceRequest, route: Route): Promise<void> {
  const engine = await backend.acquire()
  try {
    checkRequest(engine, request, route)
  } finally {
    engine.release()
  }
}

/**
 * Checks the selection and the token ids, and bounds the work of the tokenizer.
 * @throws Refusal `not-found`, `context_length_exceeded`; FormatError `bad-field`.
 */
export function checkRequest(engine: ServingEngine, request: InferenceRequest, route: Route): void {
  try {
    engine.checkSelection(request)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    throw new Refusal({ status: 400, code: error.code, message: error.message, param: 'experts' })
  }
  checkBias(engine, request)
  for (const prompt of promptsOf(request)) checkPrompt(engine, prompt, route)
}

export function promptsOf({ prompt, morePrompts }: InferenceRequest): Prompt[] {
  return [prompt, ...morePrompts]
}

/** @throws Refusal `context_length_exceeded`; FormatError `bad-field`. */
function checkPrompt(engine: ServingEngine, prompt: Prompt, route: Route): void {
  if (isTokenPrompt(prompt)) checkTokens(engine, prompt)
  const characters = promptCharacters(prompt)
  const { maxPromptCharacters: max, contextLength } = engine
  if (characters > max)
    throw tooLong(
      route,
      `the prompt has ${characters} characters, but the context of ${contextLength} tokens holds at most ${max}`,
    )
}

/** @throws Refusal `context_length_exceeded`; FormatError `bad-field` for an id that the vocabulary does not have. */
function checkTokens(engine: ServingEngine, { tokens }: TokenPrompt): void {
  if (tokens.length >= engine.contextLength) throw tooManyTokens(engine, 'completion', tokens.length)
  requireIds(engine, tokens, 'prompt')
}

/** @throws FormatError `bad-field` for a bias of an id that the vocabulary does not have. */
function checkBias(engine: ServingEngine, { logitBias }: InferenceRequest): void {
  requireIds(engine, [...logitBias.keys()], 'logit_bias')
}

function requireIds(
  { vocabularySize }: ServingEngine,
  ids: Int32Array | readonly number[],
  param: string,
): void {
  const foreign = ids.find((id) => id >= vocabularySize)
  if (foreign !== undefined)
    throw bad(param, `token ids of the vocabulary, which are less than ${vocabularySize}, got ${foreign}`)
}

export function tooManyTokens({ contextLength }: ServingEngine, route: Route, count: number): Refusal {
  return tooLong(route, `the prompt has ${count} tokens, the maximum is ${contextLength - 1}`)
}

function tooLong(route: Route, message: string): Refusal {
  const param = PROMPT_MEMBER[route]
  return new Refusal({ status: 400, code: 'context_length_exceeded', message, param })
}
