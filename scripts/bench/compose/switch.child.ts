/**
 * Measures how much later the first token comes if a request chooses other experts than the request before it.
 * Forked with DIR as its argument; receives the stored experts as a message and answers with `SwitchFindings`.
 */
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { loadPublicModel } from '../../../src/checkpoint/public-model.ts'
import { ComposedModel } from '../../../src/composition/composed-model.ts'
import type { Selection } from '../../../src/composition/selection.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { THREADS } from '../inference/our-server.ts'
import { promptSource, referencePublicModel, TOP_K } from '../inference/reference-models.ts'
import { median } from '../machine.ts'
import { loadComposition } from './load.ts'
import { CONFIG, type StoredExpert } from './stored-experts.ts'

export interface SwitchFindings {
  /** Median time to the first token with another choice, minus that with the same choice. */
  readonly switchMs: number
  readonly firstTokenMs: number
}

const ROUNDS = 20
const PROMPT_TOKENS = 32

const [dir = ''] = process.argv.slice(2)
const [stored] = (await once(process, 'message')) as [StoredExpert[]]
const weights = referencePublicModel(CONFIG, mulberry32(1))
const composition = await loadComposition(await BlobStore.open(dir), weights, stored, TOP_K)
// Serving needs a tokenizer and a folder, which decoding does not use: those of the shipped model serve.
const shipped = await loadPublicModel(fileURLToPath(new URL('../../../models/small', import.meta.url)))
const model = new ComposedModel(
  onnxEngine({ threads: THREADS }),
  { ...shipped, config: CONFIG, weights },
  composition,
  { weights: 'fp32' },
)
const lease = model.acquire()
// Prompts never repeat, so that cached keys and values help neither side.
const nextPrompt = promptSource(CONFIG, PROMPT_TOKENS, 2)
await firstToken({})

const same: number[] = []
const changed: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  const name = composition.experts[round % composition.experts.length]?.name as string
  const selection: Selection = round % 2 === 0 ? { include: [name] } : { exclude: [name] }
  changed.push(await firstToken(selection))
  same.push(await firstToken(selection))
}
lease.release()
await model.retire()
const findings: SwitchFindings = { switchMs: median(changed) - median(same), firstTokenMs: median(same) }
process.send?.(findings)
process.disconnect()

async function firstToken(selection: Selection): Promise<number> {
  const prompt = nextPrompt()
  const started = performance.now()
  const sampling = { temperature: 0, topP: 1, seed: 0 }
  const tokens = model.complete({ prompt, maxTokens: 1, sampling, selection }, AbortSignal.timeout(60_000))
  for await (const _ of tokens) return performance.now() - started
  throw new Error('the first token ended the text; choose another seed')
}
