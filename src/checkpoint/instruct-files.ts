/**
 * The optional files of a Hugging Face folder that say how a model is used: generation_config.json,
 * tokenizer_config.json and chat_template.jinja. Does not render templates and does not generate.
 */
import { join } from 'node:path'
import type { ChatTemplate } from '../data/chat-template.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { pathExists, readFileBounded } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { OPTIONAL_FILE_NAMES } from '../lib/model-shape.ts'
import { CONFIG_FILE, checkModelLink } from './model-directory.ts'

/** What the optional files of a folder hold. */
export interface InstructFiles {
  /** The bytes of those files that exist, by name. */
  readonly bytes: ReadonlyMap<string, Uint8Array>
  /** Members of generation_config.json; empty without the file. */
  readonly generation: Readonly<Record<string, unknown>>
  /** Members of tokenizer_config.json; empty without the file. */
  readonly tokenizer: Readonly<Record<string, unknown>>
  readonly chatTemplate: ChatTemplate | undefined
}

const { generation: GENERATION_FILE, 'tokenizer-config': TOKENIZER_CONFIG_FILE } = OPTIONAL_FILE_NAMES
const TEMPLATE_FILE = OPTIONAL_FILE_NAMES['chat-template']
/** Special tokens that templates may write. Source: `special_tokens_map` of transformers. */
const VARIABLES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token']

/** @throws InputError `not-a-model` for a file that is too large or not what its name says. */
export async function readInstructFiles(dir: string): Promise<InstructFiles> {
  const bytes = new Map<string, Uint8Array>()
  for (const name of Object.values(OPTIONAL_FILE_NAMES)) {
    const content = await readOptional(dir, name)
    if (content !== undefined) bytes.set(name, content)
  }
  const generation = readJson(join(dir, GENERATION_FILE), bytes.get(GENERATION_FILE))
  const tokenizer = readJson(join(dir, TOKENIZER_CONFIG_FILE), bytes.get(TOKENIZER_CONFIG_FILE))
  const source = templateSource(dir, tokenizer, bytes.get(TEMPLATE_FILE))
  const chatTemplate = source === undefined ? undefined : { source, variables: specialTokens(tokenizer) }
  return { bytes, generation, tokenizer, chatTemplate }
}

async function readOptional(dir: string, name: string): Promise<Uint8Array | undefined> {
  const path = join(dir, name)
  if (!(await pathExists(path))) return undefined
  await checkModelLink(dir, name)
  try {
    return await readFileBounded(path, limit('optionalFileBytes'))
  } catch (error) {
    if (error instanceof FormatError) throw new InputError('not-a-model', error.message, {}, error)
    throw error
  }
}

function readJson(path: string, bytes: Uint8Array | undefined): Record<string, unknown> {
  if (bytes === undefined) return {}
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new InputError('not-a-model', `${path}: expected JSON`, {}, cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError('not-a-model', `${path}: expected a JSON object`)
  return value as Record<string, unknown>
}

/** chat_template.jinja, else the member of tokenizer_config.json: a text, or several of which one is named default. */
function templateSource(
  dir: string,
  tokenizer: Readonly<Record<string, unknown>>,
  file: Uint8Array | undefined,
): string | undefined {
  if (file !== undefined) {
    try {
      return fromUtf8(file)
    } catch (cause) {
      throw new InputError('not-a-model', `${join(dir, TEMPLATE_FILE)}: expected UTF-8 text`, {}, cause)
    }
  }
  const member = tokenizer['chat_template'] ?? undefined
  if (member === undefined || typeof member === 'string') return member
  const named = Array.isArray(member)
    ? (member as { name?: unknown; template?: unknown }[]).find((item) => item?.name === 'default')
    : undefined
  if (typeof named?.template === 'string') return named.template
  throw new InputError(
    'not-a-model',
    `${join(dir, TOKENIZER_CONFIG_FILE)}: expected chat_template to be a text, or a list with one named default; correct it, or put the template into ${TEMPLATE_FILE}`,
  )
}

function specialTokens(tokenizer: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    VARIABLES.flatMap((name) => {
      const value = tokenizer[name]
      const text: unknown =
        typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value
      return typeof text === 'string' ? [[name, text]] : []
    }),
  )
}

/**
 * Ids of the tokens that end a text: those of config.json, then those that generation_config.json adds.
 * @param vocabSize number of embeddings
 * @throws InputError `not-a-model` for anything else than ids.
 */
export function endsOfText(
  dir: string,
  config: unknown,
  { generation }: Pick<InstructFiles, 'generation'>,
  vocabSize: number,
): number[] {
  const files: [string, unknown][] = [
    [CONFIG_FILE, (config as { eos_token_id?: unknown } | null)?.eos_token_id],
    [GENERATION_FILE, generation['eos_token_id']],
  ]
  const ids = files.flatMap(([name, value]): number[] => {
    const list: unknown[] = Array.isArray(value)
      ? value
      : value === undefined || value === null
        ? []
        : [value]
    for (const id of list) {
      if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0 || id >= vocabSize) {
        throw new InputError(
          'not-a-model',
          `${join(dir, name)}: expected eos_token_id to be an id from 0 to ${vocabSize - 1} or a list of them, got ${JSON.stringify(value)?.slice(0, 100)}`,
        )
      }
    }
    return list as number[]
  })
  return [...new Set(ids)]
}
