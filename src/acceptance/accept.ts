/**
 * Whether an expert may be composed here: an ordered list of named checks that ends at the first
 * refusal. Pure but for the measurement that the caller supplies; who delivered the bytes is not
 * known. Refusing is a value, not an exception.
 */
import type { ExpertTensor } from '../checkpoint/safetensors.ts'
import { isMember, mayPublish, type Roster } from '../consortium/roster.ts'
import { type Digest, digestOf } from '../lib/bytes.ts'
import { FlexMeshError, PolicyError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { ModelShape } from '../lib/model-shape.ts'
import type { Params } from '../model/params.ts'
import { type Manifest, openManifest } from '../packaging/manifest.ts'
import { unpackExpert } from '../packaging/package.ts'
import { checkFinite, checkNorms, checkRouterRows, checkStatistics } from './checks.ts'
import type { AcceptancePolicy } from './policy.ts'

export interface Measurement {
  /** Bits per byte on the acceptor's own held-out text, if it has any, without and with the expert. */
  readonly own?: { readonly before: number; readonly after: number }
  readonly public: { readonly before: number; readonly after: number }
  /** Share of routing on public text that the expert takes beside the public expert. */
  readonly publicLoadShare: number
  /** The same by a gate solved from its router statistics, if it brings them. */
  readonly publicGateShare?: number
}

export type Verdict = {
  /** Package id, or digest of the refused envelope when it has none. */
  readonly id: Digest
  readonly publisher?: string
  readonly expert?: string
  /** Names of the checks that passed, in order. */
  readonly passed: readonly string[]
  readonly measurement?: Measurement
  /** Unix seconds. */
  readonly at: number
} & (
  | { readonly outcome: 'accepted' }
  | { readonly outcome: 'refused'; readonly check: string; readonly code: string; readonly reason: string }
)

export interface AcceptanceContext {
  readonly consortium: Digest
  readonly roster: Roster
  readonly publicModel: {
    readonly digest: Digest
    readonly tokenizerDigest: Digest
    readonly shape: ModelShape
    readonly params: Params
  }
  readonly policy: AcceptancePolicy
  /** Package ids that their owner has withdrawn. */
  readonly withdrawn: ReadonlySet<Digest>
  /** Unix seconds; one reading for the whole decision. */
  readonly now: number
}

export type Measure = (tensors: ReadonlyMap<string, ExpertTensor>) => Promise<Measurement>

/** Everything that can be judged before the weights are fetched. */
export function judgeManifest(
  envelope: Uint8Array,
  context: AcceptanceContext,
): { verdict: Verdict; manifest?: Manifest } {
  let opened: { manifest: Manifest; id: Digest } | undefined
  const run = new Run(digestOf(envelope), context.now)
  run.check('envelope, strict signature, canonical manifest', () => {
    opened = openManifest(envelope)
    run.describe(opened.id, opened.manifest)
  })
  const manifest = (): Manifest => (opened as { manifest: Manifest }).manifest
  run.check('consortium', () => {
    if (manifest().consortium !== context.consortium) {
      throw new VerificationError('wrong-consortium', `made for consortium ${manifest().consortium}`)
    }
  })
  run.check('signer on the roster', () => {
    const { publisher, seq } = manifest()
    if (!isMember(context.roster, publisher) && !mayPublish(context.roster, publisher, seq)) {
      throw new VerificationError('not-a-member', `${publisher} is not a member`)
    }
  })
  run.check('validity', () => {
    const { issuedAt, expiresAt } = manifest()
    if (issuedAt > context.now + limit('clockSkew'))
      throw new VerificationError('not-yet-valid', 'issued in the future')
    if (expiresAt + limit('clockSkew') < context.now)
      throw new VerificationError('expired', 'its consent has expired')
    if (context.withdrawn.has((opened as { id: Digest }).id))
      throw new VerificationError('withdrawn', 'its owner has withdrawn it')
  })
  run.check('public model', () => {
    const { digest, tokenizerDigest } = context.publicModel
    const theirs = manifest().publicModel
    if (theirs.digest !== digest || theirs.tokenizerDigest !== tokenizerDigest) {
      throw new VerificationError('wrong-public-model', `trained beside ${theirs.digest}, ours is ${digest}`)
    }
  })
  run.check('declared shape', () => {
    const { expert } = manifest()
    const { shape } = context.publicModel
    if (
      expert.layers !== shape.num_hidden_layers ||
      expert.hidden_size !== shape.hidden_size ||
      expert.intermediate_size !== shape.intermediate_size
    ) {
      throw new PolicyError(
        'tensor-shape',
        `declares ${expert.layers} layers of ${expert.hidden_size} x ${expert.intermediate_size}`,
      )
    }
    if (expert.statisticsTokens > 0 && expert.statisticsTokens !== shape.vocab_size) {
      throw new PolicyError(
        'tensor-shape',
        `declares router statistics of ${expert.statisticsTokens} tokens, the vocabulary has ${shape.vocab_size}`,
      )
    }
  })
  run.check('documents of router statistics', () => {
    const { statisticsTokens, statisticsDocuments: documents } = manifest().expert
    if (statisticsTokens > 0 && documents < limit('statisticsDocuments')) {
      throw new PolicyError(
        'statistics-documents',
        `its router statistics average over ${documents} documents, at least ${limit('statisticsDocuments')} are needed to hide one`,
      )
    }
  })
  return { verdict: run.verdict(), ...(opened === undefined ? {} : { manifest: manifest() }) }
}

/** The rest, on the fetched weights; `soFar` is the verdict of `judgeManifest`. */
export async function judgeWeights(
  soFar: Verdict,
  manifest: Manifest,
  weights: Uint8Array,
  context: AcceptanceContext,
  measure: Measure,
): Promise<Verdict> {
  if (soFar.outcome === 'refused') return soFar
  const run = new Run(soFar.id, context.now, soFar.passed)
  run.describe(soFar.id, manifest)
  let tensors: ReadonlyMap<string, ExpertTensor> = new Map()
  run.check('file digest', () => {
    const [file] = manifest.files
    if (weights.length < file.size)
      throw new VerificationError('wrong-digest', `file has ${weights.length} of ${file.size} bytes`)
    if (digestOf(weights) !== file.sha256)
      throw new VerificationError('wrong-digest', `file is not ${file.sha256}`)
  })
  run.check('tensor names, shapes, dtypes', () => {
    tensors = unpackExpert(weights, manifest)
  })
  run.check('finite values', () => checkFinite(tensors))
  run.check('norm bounds', () => checkNorms(tensors, context.publicModel.params, context.policy))
  run.check('router rows', () => checkRouterRows(tensors, context.policy))
  run.check('router statistics', () => checkStatistics(tensors))
  if (run.refused) return run.verdict()
  const measurement = await measure(tensors)
  run.check('load share on public text', () =>
    share('load-share', 'takes', measurement.publicLoadShare, context.policy.maxPublicLoadShare),
  )
  run.check('gate share on public text', () => {
    const { publicGateShare } = measurement
    if (publicGateShare !== undefined) {
      share('gate-share', 'its router statistics take', publicGateShare, context.policy.maxPublicGateShare)
    }
  })
  run.check('public text', () =>
    bound('harms-public', 'public', measurement.public, context.policy.maxPublicLoss),
  )
  run.check('own text', () => {
    if (measurement.own !== undefined) bound('harms-own', 'own', measurement.own, context.policy.maxOwnLoss)
  })
  return { ...run.verdict(), measurement }
}

function share(code: 'load-share' | 'gate-share', what: string, found: number, max: number): void {
  if (!(found <= max)) {
    throw new PolicyError(
      code,
      `${what} ${percent(found)} of public text, at most ${percent(max)} is allowed`,
    )
  }
}

function bound(
  code: 'harms-public' | 'harms-own',
  title: string,
  { before, after }: { before: number; after: number },
  max: number,
): void {
  if (!(after <= before * (1 + max))) {
    throw new PolicyError(
      code,
      `bits per byte on ${title} text: ${before.toFixed(3)} before, ${after.toFixed(3)} after; at most ${percent(max)} worse is allowed`,
    )
  }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

/** Collects passed checks until the first refusal. */
class Run {
  #id: Digest
  readonly #at: number
  readonly #passed: string[]
  #publisher: { publisher: string; expert: string } | undefined
  #refusal: { check: string; code: string; reason: string } | undefined

  constructor(id: Digest, at: number, passed: readonly string[] = []) {
    this.#id = id
    this.#at = at
    this.#passed = [...passed]
  }

  get refused(): boolean {
    return this.#refusal !== undefined
  }

  describe(id: Digest, manifest: Manifest): void {
    this.#id = id
    this.#publisher = { publisher: manifest.publisher, expert: manifest.expert.name }
  }

  check(name: string, body: () => void): void {
    if (this.refused) return
    try {
      body()
      this.#passed.push(name)
    } catch (error) {
      if (!(error instanceof FlexMeshError)) throw error
      this.#refusal = { check: name, code: error.code, reason: error.message }
    }
  }

  verdict(): Verdict {
    const common = { id: this.#id, ...this.#publisher, passed: this.#passed, at: this.#at }
    return this.#refusal === undefined
      ? { ...common, outcome: 'accepted' }
      : { ...common, outcome: 'refused', ...this.#refusal }
  }
}
