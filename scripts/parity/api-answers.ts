/** Greedy answers of OpenAI-compatible APIs: of a server by HTTP, and of a node that has no network. */
import type { FlexMeshNode } from '../../src/node/node.ts'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { localBackend } from '../../src/serving/local-engine.ts'

export interface Question {
  readonly route: 'completions' | 'chat/completions'
  readonly body: Readonly<Record<string, unknown>>
}

export interface Answer {
  readonly choices?: readonly {
    readonly text?: string
    readonly message?: { readonly content: string }
    readonly finish_reason?: string
  }[]
  readonly flexmesh?: { readonly served_by: string }
  readonly error?: { readonly code: string; readonly message: string }
}

/** Sends a request to an API and returns its JSON. */
export type Send = (route: string, body: Readonly<Record<string, unknown>>) => Promise<Answer>

/** The greedy answer to a question, of at most `tokens` tokens. @param model the name that the API serves */
export async function ask(
  send: Send,
  { route, body }: Question,
  tokens: number,
  model = 'flexmesh',
): Promise<Answer> {
  return send(route, { model, max_tokens: tokens, temperature: 0, ...body })
}

/** The API at an address such as `http://127.0.0.1:8000/v1`. */
export function postTo(url: string, key: string): Send {
  return async (route, body) => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` }
    const answer = await fetch(`${url}/${route}`, { method: 'POST', headers, body: JSON.stringify(body) })
    return (await answer.json()) as Answer
  }
}

/** The API of a node, without a socket. */
export function apiOf({ composer, prompts, publicModel }: FlexMeshNode): Send {
  const backend = localBackend(composer, prompts, publicModel.tokenizer, publicModel.endsOfText)
  const app = createApp({
    backendFor: () => backend,
    callers: fixedCallers(['key']),
    isOwnHost: () => true,
    now: () => 0,
  })
  return async (route, body) => {
    const headers = { 'content-type': 'application/json', authorization: 'Bearer key' }
    const init = { method: 'POST', headers, body: JSON.stringify(body) }
    return (await (await app.request(`/v1/${route}`, init, {})).json()) as Answer
  }
}

/**
 * The text of an answer and why it ended, as JSON. The number of tokens is not in it, because vLLM counts the end of
 * text. @throws Error if the API refused the request.
 */
export function contentOf({ choices, error }: Answer): string {
  if (error !== undefined) throw new Error(`${error.code}: ${error.message}`)
  const [choice] = choices ?? []
  return JSON.stringify([choice?.text ?? choice?.message?.content, choice?.finish_reason])
}
