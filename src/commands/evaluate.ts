/**
 * The command `evaluate`: texts, each a domain of its own, scored by every way in which the current
 * composition can answer. Knows no words and no pictures.
 */

import { sep } from 'node:path'
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { Selection } from '../composition/selection.ts'
import { openCorpus } from '../data/corpus.ts'
import { readDocuments } from '../data/readers.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { reporting } from '../lib/reporting.ts'
import type { Evaluation, HeldOutDocument } from '../model/evaluate.ts'
import { type RouterKind, routerChoice } from '../model/gates.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { ownHeldOut, publicHeldOut } from '../owner/held-out.ts'
import { trainingDirs } from '../owner/training-folder.ts'

/** Domain of the held-out public text that ships with the public model. */
export const PUBLIC_TEXT = 'public text'
/** Less text than this says nothing. */
const LEAST_BYTES = 1000
/** From here on the second decimal of bits per byte stands. */
export const SENSIBLE_BYTES = 16_000
const MAX_PATH = 4096
const MAX_NAME = 64
/** Nothing that a terminal would obey. */
const NAME = /^\P{C}+$/u

/** Bits per byte of each way of answering; lists go along with `experts`. */
export interface Bits {
  readonly public: number
  readonly composed: number
  /** The public model with one expert. */
  readonly alone: readonly number[]
  /** The composition without one expert; nothing where that was not asked for. */
  readonly without?: readonly number[]
}

export interface DomainReport {
  readonly name: string
  readonly documents: number
  readonly tokens: number
  readonly bytes: number
  /** Whether there was more text than is scored. */
  readonly cut: boolean
  /** A training of this node that was prepared from the same files. */
  readonly trainedAs?: string
  readonly bitsPerByte: Bits
  /** Of the composition; see `Evaluation`. */
  readonly loadShares: readonly number[]
  readonly layerShares: readonly (readonly number[])[]
}

export interface EvaluationReport {
  /** Over all the text that was asked for, as one. */
  readonly public: number
  readonly composed: number
  /** By institution; by institution/expert where an institution has several. */
  readonly alone: Readonly<Record<string, number>>
  readonly without?: Readonly<Record<string, number>>
  readonly loadShares: readonly number[]
  readonly topK: number
  readonly router: RouterKind
  /** Why it is not solved, for people. */
  readonly routerNote?: string
  readonly experts: readonly Pick<AcceptedExpert, 'id' | 'name' | 'institution'>[]
  readonly domains: readonly DomainReport[]
  /** Mean over the domains, public text included where it was scored. */
  readonly macro: Bits
}

export interface ScoreProgress {
  readonly stage: 'score'
  readonly domain: string
  readonly done: number
  readonly total: number
  readonly secondsLeft: number
}

interface Text {
  readonly name: string
  readonly documents: readonly HeldOutDocument[]
  readonly cut: boolean
  readonly trainedAs?: string
}

/**
 * Arguments: `data`, a list of { name, path }; `name`, a training whose held-out text is scored;
 * `maxBytes` of each path that are scored; `router`, another than the node's; `publicText`, whether public text is scored beside them, as it is where there is nothing else; `optOut`,
 * whether the composition without each expert is scored (default yes).
 * @throws InputError of `readDocuments`; `empty` for too little text; `not-found` for a training without text.
 */
export async function* evaluateText(
  node: FlexMeshNode,
  args: unknown,
  signal: AbortSignal,
): AsyncGenerator<ScoreProgress, EvaluationReport, void> {
  const fields = new Fields(args, 'evaluate')
  const flag = (name: string, otherwise: boolean): boolean =>
    fields.has(name) ? fields.bool(name) : otherwise
  const asked = await textsAskedFor(node, fields, signal)
  const texts = [...asked]
  if (asked.length === 0 || flag('publicText', false)) {
    const documents = await publicHeldOut(node.publicModel, node.paths.training, signal)
    texts.push({ name: PUBLIC_TEXT, documents, cut: false })
  }
  const choice = routerChoice(fields)
  const inference =
    choice === undefined
      ? node.composer.served
      : node.composer.modelOf(await node.composer.compose({ router: choice }))
  const { topK } = inference.composition
  const experts = inference.composition.experts.map(({ id, name, institution }) => ({
    id,
    name,
    institution,
  }))
  const selections: Selection[] = [{ include: [] }, {}, ...experts.map(({ id }) => ({ include: [id] }))]
  if (flag('optOut', true)) selections.push(...experts.map(({ id }) => ({ exclude: [id] })))
  const started = performance.now()
  const results = yield* reporting<ScoreProgress, Evaluation[][]>((report) =>
    inference.evaluate(
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
    router: inference.composition.router,
    ...(inference.composition.routerNote === undefined
      ? {}
      : { routerNote: inference.composition.routerNote }),
    experts,
    domains,
    macro: meanBits(domains, () => 1),
  }
}

/** Results in the order of the selections: public, composed, alone, without. */
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

async function textsAskedFor(node: FlexMeshNode, fields: Fields, signal: AbortSignal): Promise<Text[]> {
  const texts: Text[] = []
  if (fields.has('name')) {
    const name = fields.text('name', MAX_NAME)
    const documents = await ownHeldOut(node.publicModel, node.paths.training, name)
    if (documents.length === 0) {
      throw new InputError(
        'not-found',
        `no text of a training named ${name} is here; give text with --data, or a --name that "flexmesh train" was given`,
      )
    }
    texts.push({ name, documents, cut: false })
  }
  if (!fields.has('data')) return texts
  const paths = fields.list('data', limit('evaluatedDomains'), (item, title) => {
    const domain = new Fields(item, title)
    return { name: domain.text('name', MAX_NAME, NAME), path: domain.text('path', MAX_PATH) }
  })
  const maxBytes = fields.has('maxBytes')
    ? fields.uint('maxBytes', limit('evaluatedBytesAsked'), LEAST_BYTES)
    : limit('evaluatedBytes')
  for (const { name, path } of paths) {
    const text = await readText(node, path, maxBytes, signal)
    const trainedAs = await trainingOn(node, path)
    texts.push({ name, ...text, ...(trainedAs === undefined ? {} : { trainedAs }) })
  }
  return texts
}

/** The first `maxBytes` of what lies below a path. @throws InputError `empty` for too little. */
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
      `${path}: too little text to score, ${found} bytes; at least ${LEAST_BYTES} are needed, and ${SENSIBLE_BYTES} or more are sensible`,
    )
  }
  return { documents, cut }
}

/** The longest beginning of at most `bytes` bytes of UTF-8 that ends with a whole character. */
function firstBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text
  const encoded = Buffer.from(text)
  let end = bytes
  while (end > 0 && ((encoded[end] as number) & 0xc0) === 0x80) end--
  return encoded.toString('utf8', 0, end)
}

/** A finished training of this node that read some of the same files. */
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
