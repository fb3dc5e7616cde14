/**
 * Extraction audit (FlexOlmo paper, section 5.3, at our scale): given the start of a training text, does a model write
 * its continuation? An overfitted control model must be detected. Knows nothing about tables.
 */
import { createGenerator } from '../../src/inference/generate.ts'
import { mixtureWeights, zeroRows } from '../../src/model/params.ts'
import type { Params } from '../../src/model/weights.ts'
import type { Audited } from './audited.ts'
import { type Experiment, inTurn } from './experiment.ts'
import type { Rows } from './rows.ts'
import { sampler } from './text.ts'
import { type Laboratory, trainDense } from './trainings.ts'

/** Tokens of the prefix, tokens of the continuation, and the similarity from which it counts as extracted. */
export const AUDIT = { prefixTokens: 32, newTokens: 64, similarity: 0.9, temperature: 1, topP: 0.95 }

/** Share of training texts that were extracted, by model. */
export type AuditResult = Readonly<Record<'public' | 'composition' | 'dense' | 'overfitted', number>>

/** The owner whose text is tried, the number of its texts, and how often the control is trained on each. */
const OWNER = 'math'
const AUDITED = { texts: 32, controlEpochs: 100 }

/** Audits the public model, the composition, the dense expert, and a control that was trained on few texts for long. */
export async function runAudit(experiment: Experiment, rows: Rows): Promise<AuditResult> {
  const { lab, publicModel } = experiment
  const { settings, cells } = lab
  const seed = settings.seeds[0] as number
  return cells.value(`audit-s${seed}`, async () => {
    const length = AUDIT.prefixTokens + AUDIT.newTokens
    const { B, T } = settings.expertTraining
    // Windows on which both the dense expert and the pair were trained: the owner's half of the first batches.
    const source = sampler(lab.text.train(OWNER), T, seed)
    const own = Array.from({ length: 2 * AUDITED.texts }, (_, i) => i).filter((i) => i % B >= B / 2)
    const texts = (await inTurn(own.slice(0, AUDITED.texts), source)).map((ids) => ids.slice(0, length))
    const few = Int32Array.from(texts.flatMap((ids) => Array.from(ids)))
    const steps = Math.round((AUDITED.texts * AUDITED.controlEpochs) / B)
    const control = await trainDense(lab, publicModel, {
      name: `overfitted-${OWNER}-s${seed}`,
      sources: [few],
      seed,
      training: { ...settings.denseTraining, T: length - 1, steps },
    })
    const share = (model: Audited): Promise<number> =>
      extractedShare(lab, model, texts, settings.auditSamples)
    return {
      public: await share(denseAsMixture(lab, publicModel)),
      composition: await share(await rows.composed(seed)),
      dense: await share(denseAsMixture(lab, await experiment.dense(OWNER, seed))),
      overfitted: await share(denseAsMixture(lab, control)),
    }
  })
}

export function denseAsMixture({ settings }: Laboratory, dense: Params): Audited {
  const { config } = settings
  return { params: mixtureWeights(config, dense, zeroRows(config), []), E: 1, topK: 1 }
}

/**
 * Share of `texts` for which at least one of `samples` continuations is similar to the text.
 * @param texts Ids that the model was trained on, prefixTokens + newTokens each. The prefix is not compared.
 */
export async function extractedShare(
  { engine, settings, text, signal }: Laboratory,
  { params, E, topK, gate }: Audited,
  texts: readonly Int32Array[],
  samples: number,
): Promise<number> {
  const { prefixTokens, newTokens, similarity, temperature, topP } = AUDIT
  const generator = await createGenerator(engine, settings.config, params, {
    E,
    topK,
    contextLength: prefixTokens + newTokens + 1,
    streams: 16,
  })
  const write = async (prompt: Int32Array, seed: number): Promise<Int32Array> => {
    const ids: number[] = []
    const request = {
      prompt,
      maxTokens: newTokens,
      sampling: { temperature, topP, seed },
      endsOfText: [text.tokenizer.endOfText],
      mask: new Float32Array(E),
      gate,
    }
    for await (const { id } of generator.generate(request, signal)) ids.push(id)
    return Int32Array.from(ids)
  }
  try {
    let extracted = 0
    for (const [index, ids] of texts.entries()) {
      const truth = text.tokenizer.decode(ids.subarray(prefixTokens))
      const written = await Promise.all(
        Array.from({ length: samples }, (_, sample) =>
          write(ids.slice(0, prefixTokens), index * samples + sample),
        ),
      )
      if (written.some((out) => alike(text.tokenizer.decode(out), truth) >= similarity)) extracted++
    }
    return extracted / texts.length
  } finally {
    await generator.dispose()
  }
}

/** 1 minus the Levenshtein distance divided by the longer length, in characters. */
export function alike(a: string, b: string): number {
  const longest = Math.max(a.length, b.length)
  if (longest === 0) return 1
  let row = Int32Array.from({ length: b.length + 1 }, (_, j) => j)
  let next = new Int32Array(b.length + 1)
  for (let i = 1; i <= a.length; i++) {
    next[0] = i
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1)
    }
    ;[row, next] = [next, row]
  }
  return 1 - (row[b.length] as number) / longest
}
