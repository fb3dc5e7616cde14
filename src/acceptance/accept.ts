/**
 * Decides whether this node may compose an expert: an ordered list of named checks that ends at the first refusal. A
 * refusal is a value, not an exception. Pure, except for the measurement that the caller supplies. Does not know who
 * delivered the bytes. A new check needs a function in one of the three files of checks, a row in one of the three
 * tables below, and an id in protocols/expert-package, section "Acceptance".
 */
import type { Roster } from '../consortium/roster.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import type { ModelShape } from '../lib/model-shape.ts'
import type { WeightMap } from '../model/weights.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { openPackage } from '../packaging/package.ts'
import {
  checkChain,
  checkConsortium,
  checkFileRole,
  checkPrivacy,
  checkPublicModel,
  checkShape,
  checkSigner,
  checkStatisticsDocuments,
  checkValidity,
  checkWithdrawal,
} from './manifest-checks.ts'
import {
  checkGateShare,
  checkLoadShare,
  checkOwnText,
  checkPublicText,
  type Measurement,
} from './measurement-checks.ts'
import type { Judging } from './package-states.ts'
import type { AcceptancePolicy } from './policy.ts'
import {
  checkFinite,
  checkNorms,
  checkNotWithdrawn,
  checkRouterRows,
  checkStatistics,
} from './weight-checks.ts'
import { WeightScan } from './weight-scan.ts'
import type { WeightSketch } from './weight-sketch.ts'
import type { ForbiddenWeights } from './withdrawn-weights.ts'

export type Verdict = {
  /** Package id, or digest of the refused envelope if no package could be read from it. */
  readonly id: Digest
  readonly publisher?: string
  readonly expert?: string
  /** Ids of the checks that passed, in order. */
  readonly passed: readonly string[]
  readonly measurement?: Measurement
  /** Unix seconds. */
  readonly at: number
} & (
  | { readonly outcome: 'accepted' }
  | { readonly outcome: 'refused'; readonly check: string; readonly code: string; readonly reason: string }
)

/** A manifest whose envelope was opened: its signature, form and publisher are verified. */
export interface OpenedManifest {
  readonly manifest: Manifest
  /** Package id. */
  readonly id: Digest
  /** This node is about to publish it: it is not logged yet. Default: false. */
  readonly isDraft?: boolean
}

export interface AcceptanceContext {
  readonly consortium: Digest
  readonly roster: Roster
  readonly publicModel: {
    readonly digest: Digest
    readonly tokenizerDigest: Digest
    /** Digests of its files. */
    readonly files: ReadonlySet<Digest>
    readonly shape: ModelShape
    readonly weights: WeightMap
  }
  readonly policy: AcceptancePolicy
  /** Peer id of this node, which asks no guarantee of its own experts. Default: none is its own. */
  readonly self?: string
  /** Whether the publisher of a package has withdrawn it. */
  readonly isWithdrawn: (publisher: string, id: Digest) => boolean
  /** Files of withdrawn packages that the package must not have. */
  readonly withdrawnFiles: ReadonlySet<Digest>
  /** Whether a publisher signed two statements for one place in its log. */
  /** Whether a seat lets its statement count: not if a key has signed it that the seat has replaced. */
  readonly counts: (publisher: string, seq: number) => boolean
  readonly isForked: (publisher: string) => boolean
  /** Unix seconds; read once for the whole decision. */
  readonly now: number
}

/** The part of the context that checks of the weights need: plain values, which can be sent to another thread. */
export interface WeightContext extends Pick<AcceptanceContext, 'policy' | 'now'> {
  readonly publicModel: Pick<AcceptanceContext['publicModel'], 'weights'>
  /** Weights of withdrawn packages, by whose seed the candidate is sketched; undefined sketches and compares nothing. */
  readonly withdrawn?: { readonly seed: Uint8Array; readonly forbidden: readonly ForbiddenWeights[] }
}

export type Tensors = WeightMap
export type Measure = (tensors: Tensors) => Promise<Measurement>

/** Id of the check that fetching performs: the chunks and the whole file have the digests that the publisher signed. */
export const FILE_CHECK = 'file'
/** Id of the check that unpacking performs: names, shapes and dtypes are those of the manifest. */
export const TENSORS_CHECK = 'tensors'
/** Id of the check that opening an envelope performs: form, strict signature, canonical manifest. */
export const ENVELOPE_CHECK = 'envelope'

/** A check that reads weights. */
interface WeightCheck {
  readonly id: string
  /** @throws FlexMeshError whose code and message become the refusal. */
  readonly run: (scan: WeightScan, context: WeightContext, signal: AbortSignal) => Promise<void>
}

interface Check<T, C> {
  readonly id: string
  /** @throws FlexMeshError whose code and message become the refusal. */
  readonly run: (subject: T, context: C) => void
}

/** Checks that run before the weights are fetched. */
export const MANIFEST_CHECKS: readonly Check<OpenedManifest, AcceptanceContext>[] = [
  { id: 'consortium', run: checkConsortium },
  { id: 'signer', run: checkSigner },
  { id: 'chain', run: checkChain },
  { id: 'validity', run: checkValidity },
  { id: 'withdrawal', run: checkWithdrawal },
  { id: 'public-model', run: checkPublicModel },
  { id: 'shape', run: checkShape },
  { id: 'file-role', run: checkFileRole },
  { id: 'statistics-documents', run: checkStatisticsDocuments },
  { id: 'privacy', run: checkPrivacy },
]

/** Checks of the tensors. */
export const WEIGHT_CHECKS: readonly WeightCheck[] = [
  { id: 'finite', run: (scan, _, signal) => checkFinite(scan, signal) },
  { id: 'norms', run: (scan, { policy }, signal) => checkNorms(scan, policy, signal) },
  {
    id: 'withdrawn-weights',
    run: (scan, { withdrawn }, signal) => checkNotWithdrawn(scan, withdrawn?.forbidden ?? [], signal),
  },
  { id: 'router-rows', run: (scan, { policy }, signal) => checkRouterRows(scan, policy, signal) },
  { id: 'statistics', run: ({ tensors }, _, signal) => checkStatistics(tensors, signal) },
]

/** Checks of the measurement of the expert beside the experts in use. */
export const MEASUREMENT_CHECKS: readonly Check<Measurement, WeightContext>[] = [
  { id: 'load-share', run: (measured, { policy }) => checkLoadShare(measured, policy) },
  { id: 'gate-share', run: (measured, { policy }) => checkGateShare(measured, policy) },
  { id: 'public-text', run: (measured, { policy }) => checkPublicText(measured, policy) },
  { id: 'own-text', run: (measured, { policy }) => checkOwnText(measured, policy) },
]

/** A verdict on weights, and the sketch of them if they were read and a sketch was asked for. */
export interface Judged {
  readonly verdict: Verdict
  readonly sketch?: WeightSketch
}

/** Run the checks that need no weights. */
export function judgeManifest(opened: OpenedManifest, context: AcceptanceContext): Verdict {
  const run = new Run(opened, context, [ENVELOPE_CHECK])
  run.checkAll(MANIFEST_CHECKS, opened)
  return run.verdict()
}

/**
 * Run the remaining checks, on the fetched weights.
 * @param soFar the verdict of `judgeManifest`
 * @param path the package's file, whose digest the caller has compared with the manifest's
 * @param report called as the checks proceed
 * @throws InputError for trouble of this machine; the signal's reason.
 */
export async function judgeWeights(
  soFar: Verdict,
  opened: OpenedManifest,
  path: string,
  context: WeightContext,
  measure: Measure,
  signal: AbortSignal,
  report: (progress: Judging) => void = () => undefined,
): Promise<Judged> {
  if (soFar.outcome === 'refused') return { verdict: soFar }
  const run = new Run(opened, context, soFar.passed)
  run.check(FILE_CHECK, () => undefined) // The caller compared the digest.
  const tensors = await run.checkWeights(TENSORS_CHECK, () => openPackage(path, opened.manifest))
  if (tensors === undefined) return { verdict: run.verdict() }
  const [first] = WEIGHT_CHECKS
  const scan = new WeightScan(
    tensors,
    context.publicModel.weights,
    (done, total) => report({ check: first?.id ?? TENSORS_CHECK, done, total }),
    context.withdrawn?.seed,
  )
  for (const check of WEIGHT_CHECKS) {
    report({ check: check.id })
    await run.checkWeights(check.id, () => check.run(scan, context, signal))
  }
  if (run.isRefused) return { verdict: run.verdict() }
  const sketch = await scan.sketch(signal)
  const measurement = await measure(tensors)
  run.checkAll(MEASUREMENT_CHECKS, measurement)
  return { verdict: { ...run.verdict(), measurement }, sketch }
}

/** The verdict on an envelope that could not be opened as a statement. */
export function refusedEnvelope(id: Digest, error: FlexMeshError, at: number, publisher?: string): Verdict {
  return {
    id,
    ...(publisher === undefined ? {} : { publisher }),
    passed: [],
    at,
    outcome: 'refused',
    check: ENVELOPE_CHECK,
    code: error.code,
    reason: error.message,
  }
}

/** Collects passed checks until the first refusal. */
class Run<C extends Pick<AcceptanceContext, 'now'>> {
  readonly #opened: OpenedManifest
  readonly #context: C
  readonly #passed: string[]
  #refusal: { check: string; code: string; reason: string } | undefined

  constructor(opened: OpenedManifest, context: C, passed: readonly string[]) {
    this.#opened = opened
    this.#context = context
    this.#passed = [...passed]
  }

  get isRefused(): boolean {
    return this.#refusal !== undefined
  }

  /** @throws any error other than FlexMeshError: a bug. */
  check(id: string, body: () => void): void {
    if (this.isRefused) return
    try {
      body()
      this.#passed.push(id)
    } catch (error) {
      this.#refuse(id, error)
    }
  }

  /** `check` for a body that reads weights. Trouble of this machine (`InputError`) is no refusal and is thrown. */
  async checkWeights<R>(id: string, body: () => Promise<R>): Promise<R | undefined> {
    if (this.isRefused) return undefined
    try {
      const result = await body()
      this.#passed.push(id)
      return result
    } catch (error) {
      if (error instanceof InputError) throw error
      this.#refuse(id, error)
      return undefined
    }
  }

  #refuse(id: string, error: unknown): void {
    if (!(error instanceof FlexMeshError)) throw error
    this.#refusal = { check: id, code: error.code, reason: error.message }
  }

  checkAll<T>(checks: readonly Check<T, C>[], subject: T): void {
    for (const { id, run } of checks) this.check(id, () => run(subject, this.#context))
  }

  verdict(): Verdict {
    const { manifest, id } = this.#opened
    const common = {
      id,
      publisher: manifest.publisher,
      expert: manifest.expert.name,
      passed: this.#passed,
      at: this.#context.now,
    }
    return this.#refusal === undefined
      ? { ...common, outcome: 'accepted' }
      : { ...common, outcome: 'refused', ...this.#refusal }
  }
}
