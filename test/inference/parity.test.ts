/**
 * Logits and greedy tokens against those of the Python library transformers, which `scripts/parity/check.ts --write`
 * recorded. `idsByEngine` and `ids` are the tokens of the two decoders.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { CASES, NEW_TOKENS, type ParityCase, promptOf, weightsOf } from '../../scripts/parity/cases.ts'
import { answerOf, type OurModel, readFolder, relativeError } from '../../scripts/parity/our-model.ts'

interface Vectors {
  readonly tolerance: number
  readonly vectors: readonly {
    readonly name: string
    readonly side: 'ours' | 'theirs'
    /** (V) after the last token of the prompt. */
    readonly logits: readonly number[]
    readonly ids: readonly number[]
  }[]
}

const folder = fileURLToPath(new URL('../fixtures/parity', import.meta.url))
const { vectors, tolerance } = JSON.parse(await readFile(join(folder, 'vectors.json'), 'utf8')) as Vectors
const caseOf = (name: string): ParityCase => {
  const found = CASES.find((task) => task.name === name)
  if (found === undefined) throw new Error(`no case ${name}; run scripts/parity/check.ts --write`)
  return found
}

describe('parity with transformers', () => {
  it('covers the differences between published models', () => {
    const ours = vectors.filter(({ side }) => side === 'ours').map(({ name }) => caseOf(name))
    expect(ours.length).toBeGreaterThanOrEqual(8)
    expect(new Set(ours.map(({ experts }) => experts))).toEqual(new Set([0, 1, 2, 3, 4, 5, 7, 8]))
    expect(ours.some(({ topK }) => topK === 1) && ours.some(({ experts, topK }) => topK === experts)).toBe(
      true,
    )
    expect(ours.some(({ config }) => config.numKeyValueHeads < config.numAttentionHeads)).toBe(true)
    expect(ours.every(({ config }) => config.vocabSize % 2 === 1)).toBe(true)
    expect(new Set(ours.map(({ dtype }) => dtype)).size).toBe(2)
  })

  it.each(vectors.map((vector) => [`${vector.name}, ${vector.side}`, vector] as const))(
    '%s: logits and greedy continuation',
    async (_, { name, side, logits, ids }) => {
      const task = caseOf(name)
      const { config, experts, topK } = task
      const model: OurModel =
        side === 'theirs'
          ? await readFolder(join(folder, name))
          : { config, experts, topK, params: weightsOf(task) }
      const answer = await answerOf(model, promptOf(task), NEW_TOKENS)
      const last = Array.from(answer.logits).slice(-config.vocabSize)
      expect(relativeError(last, logits)).toBeLessThan(tolerance)
      expect(answer.ids).toEqual(ids)
      expect(answer.idsByEngine).toEqual(ids)
      expect(ids).toHaveLength(NEW_TOKENS)
    },
  )
})
