/**
 * Loads the corpora as tokens: training text of every domain, held-out windows of one domain, and held-out windows
 * that change domain. Knows nothing about models.
 */
import { createHash } from 'node:crypto'
import { windowSampler } from '../../src/data/token-file.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { domainsOf, readSplit } from '../corpora/load.ts'
import { learnMerges, tokenizerJson } from '../public-model/bpe-trainer.ts'
import type { Cells } from './cells.ts'
import { MIXED_WINDOW, PURE_WINDOW, type Settings, STRETCH } from './settings.ts'

export const PUBLIC_DOMAIN = 'public'

/** Amount of text from which the tokenizer is learned, characters. */
const TOKENIZER_CHARACTERS = 20_000_000

/** One sequence; labels[t] is the token after ids[t]. */
export interface Window {
  /** Index of its document. */
  readonly document: number
  readonly ids: Int32Array
  readonly labels: Int32Array
}

export interface HeldOutText {
  readonly windows: readonly Window[]
  readonly bytes: number
  readonly tokens: number
}

export interface Text {
  readonly tokenizer: Tokenizer
  /** The public domain first. */
  readonly domains: readonly string[]
  /** Ids of a domain's training text; an end-of-text token precedes each document. */
  train(domain: string): Int32Array
  /** Text whose scores are reported. */
  test(domain: string): HeldOutText
  /** Public text for tuning; owners' text is never used for it. */
  readonly publicVal: HeldOutText
  readonly mixed: HeldOutText
}

export async function loadText(dir: string, settings: Settings, cells: Cells): Promise<Text> {
  const found = await domainsOf(dir)
  const domains = [PUBLIC_DOMAIN, ...found.filter((name) => name !== PUBLIC_DOMAIN).sort()]
  const tokenizer = await learnTokenizer(dir, settings, cells)
  const train = new Map<string, Int32Array>()
  const test = new Map<string, HeldOutText>()
  const stretches: Int32Array[][] = []
  for (const domain of domains) {
    const most = domain === PUBLIC_DOMAIN ? settings.publicTokens : settings.domainTokens
    train.set(domain, await trainTokens(dir, domain, tokenizer, most, cells))
    const documents = documentsOf(
      await readSplit(dir, domain, 'test'),
      tokenizer,
      2 * settings.evaluationBytes,
    )
    const half = Math.ceil(documents.length / 2)
    test.set(domain, heldOut(documents.slice(0, half), PURE_WINDOW, tokenizer.endOfText))
    stretches.push(documents.slice(half).map(({ ids }) => ids))
  }
  const publicVal = documentsOf(
    await readSplit(dir, PUBLIC_DOMAIN, 'val'),
    tokenizer,
    settings.evaluationBytes,
  )
  return {
    tokenizer,
    domains,
    train: (domain) => train.get(domain) as Int32Array,
    test: (domain) => test.get(domain) as HeldOutText,
    publicVal: heldOut(publicVal, PURE_WINDOW, tokenizer.endOfText),
    mixed: heldOut(mix(stretches, settings.mixedTokens, tokenizer), MIXED_WINDOW, tokenizer.endOfText),
  }
}

/** Learns from public text only, since closed text must not influence what is shared. */
async function learnTokenizer(dir: string, settings: Settings, cells: Cells): Promise<Tokenizer> {
  const json = await cells.value('tokenizer', async () => {
    const texts: string[] = []
    let length = 0
    for (const text of await readSplit(dir, PUBLIC_DOMAIN, 'train')) {
      if (length > TOKENIZER_CHARACTERS) break
      texts.push(text)
      length += text.length
    }
    return tokenizerJson(learnMerges(texts, settings.config.vocabSize))
  })
  return Tokenizer.load(Buffer.from(JSON.stringify(json)))
}

async function trainTokens(
  dir: string,
  domain: string,
  tokenizer: Tokenizer,
  most: number,
  cells: Cells,
): Promise<Int32Array> {
  const kept = await cells.arrays(`tokens-${domain}`, async () => {
    const ids = new Int32Array(most)
    let at = 0
    for (const text of await readSplit(dir, domain, 'train')) {
      if (at >= most) break
      ids[at++] = tokenizer.endOfText
      const encoded = tokenizer.encode(text)
      ids.set(encoded.subarray(0, most - at), at)
      at = Math.min(most, at + encoded.length)
    }
    // Ids are far below 2^24, so floats hold them exactly.
    return new Map([['ids', Float32Array.from(ids.subarray(0, at))]])
  })
  return Int32Array.from(kept.get('ids') as Float32Array)
}

interface Document {
  readonly ids: Int32Array
  readonly bytes: number
}

/** Documents in the order of their hashes, so that the first source does not fill the test set. */
function documentsOf(texts: readonly string[], tokenizer: Tokenizer, maxBytes: number): Document[] {
  const key = (text: string): string => createHash('sha256').update(text).digest('hex')
  const ordered = texts.map((text) => ({ text, key: key(text) })).sort((a, b) => (a.key < b.key ? -1 : 1))
  const documents: Document[] = []
  let bytes = 0
  for (const { text } of ordered) {
    if (bytes >= maxBytes) break
    const cut = text.slice(0, Math.ceil(maxBytes / 4))
    const document = { ids: tokenizer.encode(cut), bytes: Buffer.byteLength(cut) }
    documents.push(document)
    bytes += document.bytes
  }
  return documents
}

function heldOut(documents: readonly Document[], T: number, endOfText: number): HeldOutText {
  const windows: Window[] = []
  let bytes = 0
  let tokens = 0
  documents.forEach(({ ids, bytes: own }, document) => {
    bytes += own
    tokens += ids.length
    for (let start = 0; start < ids.length; start += T) {
      const labels = ids.slice(start, start + T)
      const before = start === 0 ? endOfText : (ids[start - 1] as number)
      windows.push({ document, labels, ids: Int32Array.of(before, ...labels.subarray(0, -1)) })
    }
  })
  return { windows, bytes, tokens }
}

/** Documents of MIXED_WINDOW tokens made of stretches of 64 to 256 from domains in random order. */
function mix(domains: readonly (readonly Int32Array[])[], tokens: number, tokenizer: Tokenizer): Document[] {
  const random = mulberry32(7)
  const below = (n: number): number => Math.floor(random() * n)
  const streams = domains.map((documents) => Int32Array.from(documents.flatMap((ids) => Array.from(ids))))
  const documents: Document[] = []
  let last = -1
  while (documents.length * MIXED_WINDOW < tokens) {
    const ids = new Int32Array(MIXED_WINDOW)
    let at = 0
    while (at < MIXED_WINDOW) {
      let domain = below(streams.length)
      while (domain === last) domain = below(streams.length)
      last = domain
      const stream = streams[domain] as Int32Array
      const length = STRETCH.least + below(STRETCH.most - STRETCH.least + 1)
      const start = below(Math.max(1, stream.length - length))
      const part = stream.subarray(start, start + Math.min(length, MIXED_WINDOW - at))
      ids.set(part, at)
      at += part.length
    }
    documents.push({ ids, bytes: Buffer.byteLength(tokenizer.decode(ids)) })
  }
  return documents
}

/** Returns a function from an index to a random window of T + 1 ids, deterministic for a seed. */
export function sampler(ids: Int32Array, T: number, seed: number): (index: number) => Promise<Int32Array> {
  const file = {
    tokens: ids.length,
    read: async (start: number, count: number) => ids.slice(start, start + count),
  }
  return windowSampler(file, T + 1, seed)
}
