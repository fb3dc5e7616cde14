/**
 * This node's composed model as a backend of the API. Each request holds the composition that is served when it
 * begins, so its answer and its attribution are of that composition even if another one is served meanwhile. Knows
 * nothing about HTTP and queues.
 */
import { expertLabels, statedExperts } from '../composition/attribution.ts'
import type { Lease } from '../composition/composed-model.ts'
import type { Composer } from '../composition/composer.ts'
import { selectionMask } from '../composition/selection.ts'
import type { Backend, ServingEngine } from './engine.ts'
import { maxPromptCharacters, type PromptEncoder } from './prompt.ts'

/** Turns the tokens of answers into text. */
export interface AnswerDecoder {
  /** The text of one token after the other; a character split over several tokens appears with the last one. */
  decodeStream(): {
    push(id: number): string
    /** The text of the last tokens if they end within a character. */
    flush(): string
  }
}

export interface LocalBackend extends Backend {
  readonly servedBy: 'node'
  acquire(): ServingEngine
}

export function localBackend(
  composer: Pick<Composer, 'acquire'>,
  prompts: PromptEncoder,
  decoder: AnswerDecoder,
): LocalBackend {
  return { servedBy: 'node', acquire: () => localEngine(composer.acquire(), prompts, decoder) }
}

function localEngine(lease: Lease, prompts: PromptEncoder, decoder: AnswerDecoder): ServingEngine {
  const { model } = lease
  const { composition, contextLength } = model
  return {
    composition: composition.digest,
    experts: expertLabels(composition),
    stated: statedExperts(composition),
    contextLength,
    maxPromptCharacters: maxPromptCharacters(prompts, contextLength),
    vocabularySize: prompts.vocabularySize,
    encode: (prompt, signal) => prompts.encode(prompt, signal),
    checkSelection: (selection) => void selectionMask(composition, selection),
    generate: async function* (request, prompt, signal) {
      const { maxTokens, temperature, topP, seed, include, exclude } = request
      const { logitBias, presencePenalty, frequencyPenalty } = request
      const text = decoder.decodeStream()
      const completion = {
        prompt,
        maxTokens,
        sampling: { temperature, topP, seed },
        changes: { bias: logitBias, presence: presencePenalty, frequency: frequencyPenalty },
        selection: { include, exclude },
      }
      let tokens = 0
      for await (const { id, shares } of model.complete(completion, signal)) {
        tokens++
        yield { text: text.push(id), shares }
      }
      // The last token of an answer need not fit into the context, because no other follows it.
      const isFull = prompt.length + tokens > contextLength
      yield { text: text.flush(), tokens, finish: tokens >= maxTokens || isFull ? 'length' : 'stop' }
    },
    release: () => lease.release(),
  }
}
