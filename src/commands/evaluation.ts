/**
 * Scores texts, each a domain of its own, with every way in which the current composition can answer. Does not know
 * how a report is printed or drawn.
 */
import { shortNames } from '../composition/attribution.ts'
import type { Selection } from '../composition/selection.ts'
import type { ComposedExpert, ScoredText, TextProgress } from '../jobs/score-texts.ts'
import type { Evaluation } from '../model/evaluate.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { FlexMeshNode } from '../node/node.ts'
import type { DomainPath } from './domains.ts'
import {
  type Bits,
  type DomainReport,
  type EvaluationReport,
  PUBLIC_TEXT,
  type ScoreProgress,
} from './evaluation-report.ts'

export interface EvaluateRequest {
  /** Texts to score; each path is one domain. */
  readonly data: readonly DomainPath[] | undefined
  /** Column of tables that holds the text; default `text`. */
  readonly column: string | undefined
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

/**
 * Score what the request names, or the public held-out text if it names no text. Another router than the node's is
 * used for this evaluation only.
 * @throws as `scoreTexts`.
 */
export async function* evaluateText(
  node: FlexMeshNode,
  request: EvaluateRequest,
  signal: AbortSignal,
): AsyncGenerator<ScoreProgress, EvaluationReport, void> {
  const { composer } = node
  const composition =
    request.router === undefined
      ? composer.served.composition
      : await composer.compose({ router: request.router })
  const { topK, router, routerNote } = composition
  const experts = composition.experts.map(({ id, name, institution }) => ({ id, name, institution }))
  const selections: Selection[] = [{ include: [] }, {}, ...experts.map(({ id }) => ({ include: [id] }))]
  if (request.optOut) selections.push(...experts.map(({ id }) => ({ exclude: [id] })))
  const data = request.data ?? []
  const asked = data.length + (request.name === undefined ? 0 : 1)
  const composed: ComposedExpert[] = []
  for (const { expert: _, ...named } of composition.experts) {
    composed.push({ ...named, manifest: await node.accepted.manifestOf(named.id) })
  }
  await node.trainings.prepareReplay(signal)
  const scoring = node.activities.run(
    'score',
    {
      training: request.name,
      data,
      maxBytes: request.maxBytes,
      column: request.column,
      publicText: asked === 0 || request.publicText ? PUBLIC_TEXT : undefined,
      experts: composed,
      publicModel: node.charter.publicModel.digest,
      topK,
      router,
      publicStatistics: router === 'solved' ? await node.trainings.publicStatistics() : undefined,
      selections,
    },
    signal,
  )
  const texts = yield* withTimeLeft(scoring)
  const domains = texts.map((text) => domainReport(text, experts.length))
  const pooled = domains.slice(0, Math.max(1, asked))
  const all = meanBits(pooled, ({ bytes }) => bytes)
  const labels = shortNames(experts.map(({ institution, name }) => ({ institution, expert: name })))
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

/** Adds the expected time to every progress event. */
async function* withTimeLeft<R>(
  scoring: AsyncGenerator<TextProgress, R, void>,
): AsyncGenerator<ScoreProgress, R, void> {
  const started = performance.now()
  for (;;) {
    const step = await scoring.next()
    if (step.done === true) return step.value
    const { done, total } = step.value
    const secondsLeft = ((performance.now() - started) / 1000 / done) * (total - done)
    yield { stage: 'score', ...step.value, secondsLeft }
  }
}

/** @param text its scores: public, composed, n times alone, n times without or none */
function domainReport({ scores, ...text }: ScoredText, n: number): DomainReport {
  const [first, composed] = scores as [Evaluation, Evaluation]
  const { documents, tokens, bytes, loadShares, layerShares } = composed
  const bits = scores.map(({ bitsPerByte }) => bitsPerByte)
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
