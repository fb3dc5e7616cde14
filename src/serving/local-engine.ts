/**
 * This node's composed model as a backend of the API. Each request holds the composition that is served when it
 * begins, so its answer and its attribution are of that composition even if another one is served meanwhile. Knows
 * nothing about HTTP and queues.
 */
import { expertLabels, statedExperts } from '../composition/attribution.ts'
import type { Lease, PromptReport } from '../composition/composed-model.ts'
import type { Composer } from '../composition/composer.ts'
import { selectionMask } from '../composition/selection.ts'
import { Grammars } from '../grammar/grammars.ts'
import type { Backend, ServingEngine } from './engine.ts'
import { maxPromptCharacters, type PromptEncoder } from './prompt.ts'
import type { Vocabulary } from './vocabulary.ts'

export interface LocalBackend extends Backend {
  readonly servedBy: 'node'
  acquire(): ServingEngine
}

/** @param endsOfText ids of the tokens that end a text */
export function localBackend(
  composer: Pick<Composer, 'acquire'>,
  prompts: PromptEncoder,
  vocabulary: Vocabulary,
  endsOfText: readonly number[],
): LocalBackend {
  const { vocabularySize } = prompts
  const grammars = new Grammars({ vocabularySize, bytesOf: (id) => vocabulary.bytesOf(id), ends: endsOfText })
  return { servedBy: 'node', acquire: () => localEngine(composer.acquire(), prompts, vocabulary, grammars) }
}

function localEngine(
  lease: Lease,
  prompts: PromptEncoder,
  vocabulary: Vocabulary,
  grammars: Grammars,
): ServingEngine {
  const { model } = lease
  const { composition, contextLength } = model
  return {
    composition: composition.digest,
    experts: expertLabels(composition),
    stated: statedExperts(composition),
    contextLength,
    maxPromptCharacters: maxPromptCharacters(prompts, contextLength),
    vocabularySize: prompts.vocabularySize,
    vocabulary,
    turnEnds: prompts.turnEnds,
    encode: (prompt, signal) => prompts.encode(prompt, signal),
    checkSelection: (selection) => void selectionMask(composition, selection),
    generate: async function* (request, prompt, signal, scope) {
      const { maxTokens, temperature, topP, seed, include, exclude } = request
      const { logitBias, presencePenalty, frequencyPenalty, logprobs, echo, constraint } = request
      const text = vocabulary.decodeStream()
      let report: PromptReport | undefined
      const completion = {
        prompt,
        maxTokens,
        sampling: { temperature, topP, seed },
        changes: { bias: logitBias, presence: presencePenalty, frequency: frequencyPenalty },
        ...(logprobs === undefined ? {} : { topScores: logprobs, scorePrompt: echo }),
        onPrompt: (given: PromptReport) => {
          report = given
        },
        scope,
        ...(constraint === undefined ? {} : { grammar: grammars.of(constraint) }),
        selection: { include, exclude },
      }
      let tokens = 0
      for await (const { id, shares, score } of model.complete(completion, signal)) {
        if (tokens === 0 && report !== undefined) yield { text: '', tokens, prompt: report }
        tokens++
        yield { text: text.push(id), shares, ...(score === undefined ? {} : { score }) }
      }
      if (tokens === 0 && report !== undefined) yield { text: '', tokens, prompt: report }
      // The last token of an answer need not fit into the context, because no other follows it.
      const isFull = prompt.length + tokens > contextLength
      yield { text: text.flush(), tokens, finish: tokens >= maxTokens || isFull ? 'length' : 'stop' }
    },
    embed: ({ include, exclude }, prompt, signal) => model.embed(prompt, { include, exclude }, signal),
    release: () => lease.release(),
  }
}
