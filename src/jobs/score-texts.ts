/**
 * The job of `evaluate`: reads texts, each a domain of its own, and scores them with every requested selection of a
 * composition. Does not know how a report is built from the scores.
 */
import { sep } from 'node:path'
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { compose } from '../composition/compose.ts'
import { ComposedModel } from '../composition/composed-model.ts'
import type { Selection } from '../composition/selection.ts'
import { openCorpus } from '../data/corpus.ts'
import { readDocuments } from '../data/readers.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { reporting } from '../lib/reporting.ts'
import { EVALUATION_WINDOW, type Evaluation, type HeldOutDocument } from '../model/evaluate.ts'
import type { RouterKind } from '../model/gates.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import { ownHeldOut, publicHeldOut } from '../owner/held-out.ts'
import { finishedTrainings, trainingDirs } from '../owner/training-folder.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { LEAST_BYTES, SENSIBLE_BYTES } from './text-size.ts'
import { readExpert, type Workplace } from './workplace.ts'

/** An expert of the composition; its weights are read from the store. */
export interface ComposedExpert extends Omit<AcceptedExpert, 'expert'> {
  readonly manifest: Manifest
}

export interface ScoreRequest {
  /** A training of this node whose held-out text is scored. */
  readonly training: string | undefined
  /** Files and folders to score, one domain each. */
  readonly data: readonly { readonly name: string; readonly path: string }[]
  /** Maximum number of bytes of each of them to score. */
  readonly maxBytes: number
  /** Column of tables that holds the text; default `text`. */
  readonly column: string | undefined
  /** Name of the domain of public held-out text; undefined if it is not scored. */
  readonly publicText: string | undefined
  /** In the order of the mixture. */
  readonly experts: readonly ComposedExpert[]
  readonly publicModel: Digest
  readonly topK: number
  readonly router: RouterKind
  /** Undefined if the composition routes by rows. */
  readonly publicStatistics: RouterStatistics | undefined
  readonly selections: readonly Selection[]
}

export interface ScoredText {
  readonly name: string
  /** Whether the text has more than was scored. */
  readonly cut: boolean
  /** A training of this node that was prepared from the same files. */
  readonly trainedAs?: string
  /** In the order of the selections. */
  readonly scores: readonly Evaluation[]
}

/** Windows of text scored so far, and in all, counted once for every selection. */
export interface TextProgress {
  readonly done: number
  readonly total: number
}

type Text = Omit<ScoredText, 'scores'> & { readonly documents: readonly HeldOutDocument[] }

/**
 * Score the training's held-out text, then each path, then public text.
 * @throws InputError of `readDocuments`; `empty` for too little text; `not-found` for a training without text.
 */
export async function* scoreTexts(
  workplace: Workplace,
  request: ScoreRequest,
  signal: AbortSignal,
): AsyncGenerator<TextProgress, ScoredText[], void> {
  const { engine, publicModel } = workplace
  const texts = await readTexts(workplace, request, signal)
  const experts: AcceptedExpert[] = []
  for (const { manifest, ...named } of request.experts) {
    const expert = await readExpert(publicModel.config, workplace.blobs, manifest, signal)
    experts.push({ ...named, expert })
  }
  const { topK, router, publicStatistics } = request
  const base = { digest: request.publicModel, weights: publicModel.weights }
  const composition = compose(publicModel.config, base, experts, topK, { router, publicStatistics })
  const model = new ComposedModel(engine, publicModel, composition, { weights: 'fp32' })
  const windows = texts
    .flatMap(({ documents }) => documents)
    .reduce((sum, { tokens }) => sum + Math.ceil(tokens.length / EVALUATION_WINDOW), 0)
  const total = windows * request.selections.length
  const results = yield* reporting<TextProgress, Evaluation[][]>((report) =>
    model.evaluate(
      texts.map(({ documents }) => documents),
      request.selections,
      signal,
      // All texts pass a layer together, so no window is done before the end: the share of the work stands for them.
      (share) => report({ done: share * total, total }),
    ),
  )
  return texts.map(({ documents: _, ...text }, i) => ({ ...text, scores: results[i] as Evaluation[] }))
}

async function readTexts(
  workplace: Workplace,
  { training: name, data, maxBytes, column, publicText }: ScoreRequest,
  signal: AbortSignal,
): Promise<Text[]> {
  const { publicModel, training } = workplace
  const texts: Text[] = []
  if (name !== undefined) {
    const documents = await ownHeldOut(publicModel, training, name)
    if (documents.length === 0) {
      throw new InputError(
        'not-found',
        `this node has no text of a training named ${name}; give text with --data, or a --name that "flexmesh train" was given`,
      )
    }
    texts.push({ name, documents, cut: false })
  }
  for (const { name, path } of data) {
    const text = await readText(workplace, path, maxBytes, column, signal)
    const trainedAs = await trainingOn(workplace, path)
    texts.push({ name, ...text, ...(trainedAs === undefined ? {} : { trainedAs }) })
  }
  if (publicText !== undefined) {
    texts.push({
      name: publicText,
      documents: await publicHeldOut(publicModel, training, signal),
      cut: false,
    })
  }
  return texts
}

/** The first `maxBytes` bytes of the text in a file or folder. @throws InputError `empty` for too little text. */
async function readText(
  { publicModel: { tokenizer } }: Workplace,
  path: string,
  maxBytes: number,
  column: string | undefined,
  signal: AbortSignal,
): Promise<{ documents: HeldOutDocument[]; cut: boolean }> {
  const documents: HeldOutDocument[] = []
  let room = maxBytes
  let cut = false
  for await (const { text } of readDocuments([path], { signal, column })) {
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
async function trainingOn({ publicModel, training }: Workplace, path: string): Promise<string | undefined> {
  for (const name of await finishedTrainings(training)) {
    const { corpus } = trainingDirs(training, name)
    if (!(await pathExists(`${corpus}/corpus.json`))) continue
    const opened = await openCorpus(corpus, publicModel.tokenizer)
    await opened.close()
    const overlaps = opened.paths.some(
      (read) => read === path || path.startsWith(read + sep) || read.startsWith(path + sep),
    )
    if (overlaps) return name
  }
  return undefined
}
