/** The command `generate`: completes a prompt with the composition in use, and shows who carried the answer. */
import { type ExpertLabel, expertLabels, ShareTally, shortNames } from '../composition/attribution.ts'
import type { Grammar } from '../grammar/grammar.ts'
import { Grammars } from '../grammar/grammars.ts'
import { schemaProgram } from '../grammar/json-program.ts'
import { FormatError, InputError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { MAX_SEED, randomSeed } from '../lib/random.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { nodeCommand } from './command.ts'
import { EXCLUDE, INCLUDE } from './common-parameters.ts'
import { option, path, positional, text, thousandths, usage, whole, withDefault } from './parameters.ts'

const MAX_PROMPT_CHARACTERS = 65_536
const DEFAULT_MAX_TOKENS = 64
const MAX_TEMPERATURE_MILLI = 5000
const TOP_P = 0.95

export interface GenerateResult {
  /** Without the prompt. */
  readonly text: string
  readonly tokens: number
  /** Why the answer ends: the model ended it, or the number of tokens or the context is used up. */
  readonly finish: 'stop' | 'max-tokens' | 'context'
  /** With this seed the same request gives the same answer. Absent at temperature 0, which needs none. */
  readonly seed?: number
  /** Format of the weights and why it was chosen; absent for small models in fp32. */
  readonly weights?: string
  /** Share of each expert in the routing weight of the answer, public model first. */
  readonly experts: readonly (ExpertLabel & { readonly share: number })[]
}

export const GENERATE = nodeCommand({
  name: 'generate',
  usage:
    'generate "PROMPT" [--max-tokens N] [--temperature T] [--seed N] [--json-schema FILE] [--include NAME...] [--exclude NAME...]',
  parameters: {
    prompt: positional(text(MAX_PROMPT_CHARACTERS), 'give a prompt, as in flexmesh generate "Once upon"'),
    maxTokens: withDefault(
      option(
        'max-tokens',
        'maximum number of tokens to generate (default 64)',
        whole(1, limit('completionTokens')),
      ),
      DEFAULT_MAX_TOKENS,
    ),
    temperatureMilli: withDefault(
      option(
        'temperature',
        'randomness of the choice of tokens; 0 (default) always takes the likeliest one',
        thousandths(0, MAX_TEMPERATURE_MILLI),
      ),
      0,
    ),
    seed: option(
      'seed',
      'the same seed gives the same answer if --temperature is above 0 (default: random, and printed)',
      whole(0, MAX_SEED),
    ),
    jsonSchema: option(
      'json-schema',
      'the answer is a JSON value that the JSON schema in this file allows, unless --max-tokens cuts it off',
      path,
    ),
    include: INCLUDE,
    exclude: EXCLUDE,
  },
  async *run(node, request, signal): AsyncGenerator<{ readonly text: string }, GenerateResult, void> {
    const { maxTokens, temperatureMilli, seed = randomSeed(), include, exclude, jsonSchema } = request
    const grammar = jsonSchema === undefined ? undefined : await grammarOf(node, jsonSchema)
    const { tokenizer } = node.publicModel
    const lease = node.composer.acquire()
    try {
      const { model } = lease
      const prompt = await node.prompts.encode(request.prompt, signal)
      if (prompt.length >= model.contextLength) {
        throw new InputError(
          'usage',
          `generate: the prompt has ${prompt.length} tokens, but the model reads at most ${model.contextLength - 1}; shorten the prompt`,
        )
      }
      const stream = tokenizer.decodeStream()
      const labels = expertLabels(model.composition)
      const tally = new ShareTally(labels.length)
      let answer = ''
      let tokens = 0
      const completion = {
        prompt,
        maxTokens,
        sampling: { temperature: temperatureMilli / 1000, topP: TOP_P, seed },
        ...(grammar === undefined ? {} : { grammar }),
        selection: { include, exclude },
      }
      for await (const { id, shares } of model.complete(completion, signal)) {
        const piece = stream.push(id)
        answer += piece
        tokens++
        tally.add(shares)
        yield { text: piece }
      }
      const shares = tally.shares()
      const experts = labels.map((label, e) => ({ ...label, share: shares[e] as number }))
      const { way, format, reason } = model.servingFormat()
      const weights = way === 'copy' && format === 'fp32' ? {} : { weights: reason }
      const sampled = temperatureMilli > 0 ? { seed } : {}
      // The last token of an answer need not fit into the context, because no other follows it.
      const isFull = prompt.length + tokens > model.contextLength
      const finish = tokens >= maxTokens ? 'max-tokens' : isFull ? 'context' : 'stop'
      return { text: answer + stream.flush(), tokens, finish, experts, ...sampled, ...weights }
    } finally {
      lease.release()
    }
  },
  isVerbatim: true,
  words: ({ text: answer, finish, experts, seed, weights }) => [
    answer,
    '',
    ...(finish === 'context' ? ['the answer is cut here, because the context is full'] : []),
    `carried by: ${shortNames(experts)
      .map((name, e) => `${name} ${(100 * (experts[e]?.share ?? 0)).toFixed(0)} %`)
      .join(', ')}`,
    ...(seed === undefined ? [] : [`seed: ${seed}`]),
    ...(weights === undefined ? [] : [weights]),
  ],
})

/** Bytes of one character of a schema in UTF-8, at most. */
const CHARACTER_BYTES = 4

/** @throws InputError `usage` for a file that holds no JSON schema which can be followed; of `readFileBounded`. */
async function grammarOf({ publicModel }: FlexMeshNode, file: string): Promise<Grammar> {
  const { tokenizer, endsOfText } = publicModel
  const bytes = await readFileBounded(file, CHARACTER_BYTES * limit('schemaCharacters'))
  try {
    const schema: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
    const grammars = new Grammars({
      vocabularySize: tokenizer.vocabSize,
      bytesOf: (id) => tokenizer.bytesOf(id),
      ends: endsOfText,
    })
    return grammars.of({ key: file, program: schemaProgram(schema, file) })
  } catch (error) {
    if (error instanceof FormatError) throw usage(`--json-schema: ${error.message}`)
    if (error instanceof SyntaxError || error instanceof TypeError)
      throw usage(`--json-schema: ${file} is no JSON; give a file with one JSON schema`)
    throw error
  }
}
