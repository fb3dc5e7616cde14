/**
 * Scores texts, each a domain of its own, with every way in which the current composition can answer. Does not know
 * how a report is printed or drawn.
 */
import { sep } from 'node:path'
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { Selection } from '../composition/selection.ts'
import { openCorpus } from '../data/corpus.ts'
import { readDocuments } from '../data/readers.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { reporting } from '../lib/reporting.ts'
import type { Evaluation, HeldOutDocument } from '../model/evaluate.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { publicHeldOut } from '../owner/held-out.ts'
import { trainingDirs } from '../owner/training-folder.ts'
import type { DomainPath } from './domains.ts'
import {
  type Bits,
  type DomainReport,
  type EvaluationReport,
  LEAST_BYTES,
  PUBLIC_TEXT,
  type ScoreProgress,
  SENSIBLE_BYTES,
} from './evaluation-report.ts'

export interface EvaluateRequest {
  /** Texts to score; each path is one domain. */
  readonly data: readonly DomainPath[] | undefined
  /** A training of this node whose held-out text is scored. */
  readonly name: string | undefined
  /** Maximum number of bytes of each path to score. */
  readonly maxBytes: number
  /** Overrides the node's router. */
  readonly router: RouterChoice | undefined
  /** Also score the public held-out text, which is always scored if no other text is given. */
  readonly publicText: boolean
  /** Also score the composition without each expert. */
  readonly optOut: boolean
}

interface Text {
  readonly name: string
  readonly documents: readonly HeldOutDocument[]
  readonly cut: boolean
  readonly trainedAs?: string
}

/**
 * Score what the request names, or the public held-out text if it names no text. Another router than the node's is
 * used for this evaluation only.
 * @throws InputError of `readDocuments`; `empty` for too little text; `not-found` for a training without text.
 */
export async function* evaluateText(
  node: FlexMeshNode,
  request: EvaluateRequest,
  signal: AbortSignal,
): AsyncGenerator<ScoreProgress, EvaluationReport, void> {
  const { composer } = node
  const asked = await textsAskedFor(node, request, signal)
  const texts = [...asked]
  if (asked.length === 0 || request.publicText) {
    const documents = await publicHeldOut(node.publicModel, node.paths.training, signal)
    texts.push({ name: PUBLIC_TEXT, documents, cut: false })
  }
  const model =
    request.router === undefined
      ? composer.served
      : composer.modelOf(await composer.compose({ router: request.router }))
  const { topK, router, routerNote } = model.composition
  const experts = model.composition.experts.map(({ id, name, institution }) => ({ id, name, institution }))
  const selections: Selection[] = [{ include: [] }, {}, ...experts.map(({ id }) => ({ include: [id] }))]
  if (request.optOut) selections.push(...experts.map(({ id }) => ({ exclude: [id] })))
  const started = performance.now()
  const results = yield* reporting<ScoreProgress, Evaluation[][]>((report) =>
    model.evaluate(
      texts.map(({ documents }) => documents),
      selections,
      signal,
      ({ text, done, total }) => {
        const secondsLeft = ((performance.now() - started) / 1000 / done) * (total - done)
        report({ stage: 'score', domain: texts[text]?.name as string, done, total, secondsLeft })
      },
    ),
  )
  const domains = texts.map((text, i) => domainReport(text, results[i] as Evaluation[], experts.length))
  const pooled = domains.slice(0, Math.max(1, asked.length))
  const all = meanBits(pooled, ({ bytes }) => bytes)
  const labels = labelsOf(experts)
  const labelled = (values: readonly number[]): Record<string, number> =>
    Object.fromEntries(labels.map((label, i) => [label, values[i] as number]))
  return {
    public: all.public,
    composed: all.composed,
    alone: labelled(all.alone),
    ...(all.without === undefined ? {} : { without: labelled(all.without) }),
    loadShares: Array.from({ length: experts.length + 1 }, (_, e) =>
      weightedMean(
        pooled,
        ({ loadShares }) => loadShares[e] as number,
        ({ tokens }) => tokens,
      ),
    ),
    topK,
    router,
    ...(routerNote === undefined ? {} : { routerNote }),
    experts,
    domains,
    macro: meanBits(domains, () => 1),
  }
}

/** @param results in the order of the selections: public, composed, n times alone, n times without or none */
function domainReport(text: Text, results: readonly Evaluation[], n: number): DomainReport {
  const [first, composed] = results as [Evaluation, Evaluation]
  const { documents, tokens, bytes, loadShares, layerShares } = composed
  const bits = results.map(({ bitsPerByte }) => bitsPerByte)
  const without = bits.slice(2 + n)
  return {
    name: text.name,
    documents,
    tokens,
    bytes,
    cut: text.cut,
    ...(text.trainedAs === undefined ? {} : { trainedAs: text.trainedAs }),
    bitsPerByte: {
      public: first.bitsPerByte,
      composed: composed.bitsPerByte,
      alone: bits.slice(2, 2 + n),
      ...(n === 0 || without.length > 0 ? { without } : {}),
    },
    loadShares,
    layerShares,
  }
}

function weightedMean<T>(
  items: readonly T[],
  value: (item: T) => number,
  weight: (item: T) => number,
): number {
  const total = items.reduce((sum, item) => sum + weight(item), 0)
  return items.reduce((sum, item) => sum + value(item) * weight(item), 0) / Math.max(1, total)
}

function meanBits(domains: readonly DomainReport[], weight: (domain: DomainReport) => number): Bits {
  const mean = (value: (bits: Bits) => number): number =>
    weightedMean(domains, ({ bitsPerByte }) => value(bitsPerByte), weight)
  const [{ bitsPerByte }] = domains as [DomainReport]
  const { alone, without } = bitsPerByte
  return {
    public: mean((bits) => bits.public),
    composed: mean((bits) => bits.composed),
    alone: alone.map((_, i) => mean((bits) => bits.alone[i] as number)),
    ...(without === undefined
      ? {}
      : { without: without.map((_, i) => mean((bits) => bits.without?.[i] as number)) }),
  }
}

function labelsOf(experts: readonly Pick<AcceptedExpert, 'name' | 'institution'>[]): string[] {
  return experts.map(({ name, institution }) =>
    experts.filter((other) => other.institution === institution).length > 1
      ? `${institution}/${name}`
      : institution,
  )
}

async function textsAskedFor(
  node: FlexMeshNode,
  { name: training, data, maxBytes }: EvaluateRequest,
  signal: AbortSignal,
): Promise<Text[]> {
  const texts: Text[] = []
  if (training !== undefined) {
    const documents = await node.trainings.heldOut(training)
    if (documents.length === 0) {
      throw new InputError(
        'not-found',
        `this node has no text of a training named ${training}; give text with --data, or a --name that "flexmesh train" was given`,
      )
    }
    texts.push({ name: training, documents, cut: false })
  }
  for (const { name, path } of data ?? []) {
    const text = await readText(node, path, maxBytes, signal)
    const trainedAs = await trainingOn(node, path)
    texts.push({ name, ...text, ...(trainedAs === undefined ? {} : { trainedAs }) })
  }
  return texts
}

/** The first `maxBytes` bytes of the text in a file or folder. @throws InputError `empty` for too little text. */
async function readText(
  node: FlexMeshNode,
  path: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<{ documents: HeldOutDocument[]; cut: boolean }> {
  const { tokenizer } = node.publicModel
  const documents: HeldOutDocument[] = []
  let room = maxBytes
  let cut = false
  for await (const { text } of readDocuments([path], { signal })) {
    const kept = firstBytes(text, room)
    cut = kept !== text
    if (kept !== '') {
      const bytes = Buffer.byteLength(kept)
      documents.push({ tokens: Int32Array.from(tokenizer.encode(kept)), bytes })
      room -= bytes
    }
    if (cut) break
  }
  const found = maxBytes - room
  if (found < LEAST_BYTES) {
    throw new InputError(
      'empty',
      `${path}: too little text to score, ${found} bytes; at least ${LEAST_BYTES} are needed, and ${SENSIBLE_BYTES} or more make sense`,
    )
  }
  return { documents, cut }
}

/** The longest prefix of at most `bytes` bytes of UTF-8 that ends with a whole character. */
function firstBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text
  const encoded = Buffer.from(text)
  let end = bytes
  while (end > 0 && ((encoded[end] as number) & 0xc0) === 0x80) end--
  return encoded.toString('utf8', 0, end)
}

/** A finished training of this node that read some of the same files; undefined if there is none. */
async function trainingOn(node: FlexMeshNode, path: string): Promise<string | undefined> {
  for (const name of await node.trainings.finished()) {
    const { corpus } = trainingDirs(node.paths.training, name)
    if (!(await pathExists(`${corpus}/corpus.json`))) continue
    const opened = await openCorpus(corpus, node.publicModel.tokenizer)
    await opened.close()
    const overlaps = opened.paths.some(
      (read) => read === path || path.startsWith(read + sep) || read.startsWith(path + sep),
    )
    if (overlaps) return name
  }
  return undefined
}
