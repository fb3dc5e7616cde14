/**
 * Members of OpenAI-compatible requests that this server does not support, and the values with which they ask for
 * nothing. Implements the table of protocols/inference-api, section "Requests". Knows nothing about the members that are
 * supported.
 */
import { editDistance } from '../lib/edit-distance.ts'
import { bad, shown } from './request-fields.ts'

interface Unsupported {
  /** Whether the value asks for nothing. `null` always does. */
  readonly isNeutral: (value: unknown) => boolean
  /** The values that ask for nothing, for people. */
  readonly expected: string
}

const only = (...values: readonly unknown[]): Unsupported => ({
  isNeutral: (value) => values.includes(value),
  expected: values.length === 0 ? 'no value' : values.map((value) => JSON.stringify(value)).join(' or '),
})

const emptyList: Unsupported = {
  isNeutral: (value) => Array.isArray(value) && value.length === 0,
  expected: 'an empty list',
}

/** Any other value of these would change the answer or its form. */
const REFUSED: Readonly<Record<string, Unsupported>> = {
  best_of: only(1),
  repetition_penalty: only(1),
  length_penalty: only(1),
  typical_p: only(1),
  min_p: only(0),
  min_tokens: only(0),
  top_k: only(-1, 0),
  top_logprobs: only(0),
  prompt_logprobs: only(),
  echo: only(false),
  suffix: only(''),
  use_beam_search: only(false),
  ignore_eos: only(false),
  include_stop_str_in_output: only(false),
  stop_token_ids: emptyList,
  bad_words: emptyList,
  allowed_token_ids: only(),
  structured_outputs: only(),
  guided_json: only(),
  guided_regex: only(),
  guided_choice: only(),
  guided_grammar: only(),
  tools: emptyList,
  functions: emptyList,
  tool_choice: only('none', 'auto'),
  function_call: only('none', 'auto'),
  modalities: {
    isNeutral: (value) => Array.isArray(value) && value.length === 1 && value[0] === 'text',
    expected: '["text"]',
  },
  audio: only(),
  web_search_options: only(),
  prompt_embeds: only(),
  chat_template: only(),
}

/** Members that only advise or label. Other values of them are ignored, and named in the answer. */
const ADVICE: Readonly<Record<string, (value: unknown) => boolean>> = {
  store: (value) => value === false,
  metadata: (value) => typeof value === 'object' && value !== null && Object.keys(value).length === 0,
  service_tier: (value) => value === 'auto' || value === 'default',
  // In completions, which have no tools.
  parallel_tool_calls: (value) => typeof value === 'boolean',
}

/** Members that choose experts. A misspelled one must not use the expert that the caller wants to leave out. */
const CHOICE_OF_EXPERTS = ['experts', 'exclude', 'include'] as const
/** Maximum number of wrong, missing and extra letters of a misspelled name. */
const MAX_TYPOS = 2

/**
 * Checks a member that the server does not support.
 * @returns whether the member asks for something that is ignored
 * @throws FormatError `bad-field` if ignoring it would change the meaning of the request
 */
export function checkUnsupported(name: string, value: unknown): boolean {
  const refused = Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined
  if (refused !== undefined) {
    if (value === null || refused.isNeutral(value)) return false
    throw bad(name, `${refused.expected}; this server supports no other value, so leave it out`)
  }
  if (value === null) return false
  if (looksLikeChoiceOfExperts(name))
    throw bad(shown(name), 'the experts of a request in experts.include and experts.exclude')
  const isNeutral = Object.hasOwn(ADVICE, name) ? ADVICE[name] : undefined
  return isNeutral?.(value) !== true
}

function looksLikeChoiceOfExperts(name: string): boolean {
  const lower = shown(name).toLowerCase()
  return (
    lower.includes('expert') || CHOICE_OF_EXPERTS.some((known) => editDistance(lower, known) <= MAX_TYPOS)
  )
}
