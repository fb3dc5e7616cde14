/**
 * The data path, in order: `publish` takes a trained expert to the network and `withdraw` takes it back, `ingest`
 * takes a statement from the network to the composition. Read this first, then the folder that each line names.
 */

import { judgeManifest, judgeWeights, type Measurement, type Verdict } from './acceptance/accept.ts'
import { statisticsShare } from './acceptance/statistics-share.ts'
import { expertOfTensors, tensorsOfExpert } from './checkpoint/expert-tensors.ts'
import type { ExpertTensor, FloatDtype } from './checkpoint/safetensors.ts'
import { statisticsFor } from './composition/composer.ts'
import { seal } from './identity/envelope.ts'
import { MEDIA_TYPES } from './identity/media-types.ts'
import { type Digest, digestOf } from './lib/bytes.ts'
import { InputError } from './lib/errors.ts'
import { limit } from './lib/limits.ts'
import { createEvaluator } from './model/evaluate.ts'
import { gatesOf } from './model/gates.ts'
import { type Expert, mixtureParams, zeroRows } from './model/params.ts'
import { LEFT_OUT } from './model/router.ts'
import type { SequenceRouting } from './model/routing-plan.ts'
import type { NodeState } from './node/node-state.ts'
import type { Score, TrainResult } from './owner/training-folder.ts'
import { type EvalResult, encodeManifest, type Manifest } from './packaging/manifest.ts'
import { packExpert } from './packaging/package.ts'
import { noisedStatistics } from './privacy/noise.ts'
import type { ChainLink } from './statements/statement.ts'
import { encodeWithdrawal, type Withdrawal } from './statements/withdrawal.ts'

const MICRO = 1e6

/** What of an owner's router statistics leaves the node. */
export const PUBLISHED_STATISTICS = ['exact', 'noised', 'none'] as const

export interface PublishRequest {
  readonly name: string
  readonly license: string
  readonly domain: string
  readonly dtype: FloatDtype
  readonly statistics: (typeof PUBLISHED_STATISTICS)[number]
  /** Of the noise, in thousandths; 0 without noise. */
  readonly epsilonMilli: number
}

/** Pack, store the file and sign the manifest, which takes the place `link`; the caller logs it. */
export async function publish(
  state: NodeState,
  trained: { expert: Expert; result: TrainResult },
  request: PublishRequest,
  link: ChainLink,
): Promise<{ id: Digest; envelope: Uint8Array; manifest: Manifest }> {
  const { identity, consortium, charter, blobs, now } = state
  const released = withStatistics(trained, request)
  const packed = packExpert(tensorsOfExpert(state.publicModel.config, released.expert), request.dtype)
  await blobs.put(packed.parts)
  const issuedAt = now()
  const { own, public: shared } = trained.result
  const manifest: Manifest = {
    ...link,
    consortium,
    rosterVersion: state.roster().version,
    issuedAt,
    expiresAt: issuedAt + limit('manifestLifetime'),
    publicModel: {
      name: charter.publicModel.name,
      digest: charter.publicModel.digest,
      tokenizerDigest: charter.publicModel.tokenizerDigest,
    },
    expert: { name: request.name, dtype: request.dtype, ...packed.shape, ...released.facts },
    files: [{ role: 'expert', ...packed.file }],
    training: {
      documents: trained.result.documents,
      tokens: trained.result.tokens,
      steps: trained.result.steps,
      replayShareMilli: trained.result.replayShareMilli,
    },
    eval: [...evalResult('own', own), ...evalResult('public', shared)],
    license: request.license,
    domain: request.domain,
    ext: {},
  }
  const payload = encodeManifest(manifest)
  const envelope = seal(MEDIA_TYPES.manifest, payload, [identity])
  return { id: digestOf(payload), envelope, manifest }
}

/** Sign what takes own packages back, in the place `link`; the caller logs it. */
export function withdraw(
  { identity, consortium, now }: Pick<NodeState, 'identity' | 'consortium' | 'now'>,
  manifests: readonly Digest[],
  link: ChainLink,
): { id: Digest; envelope: Uint8Array; withdrawal: Withdrawal } {
  const withdrawal: Withdrawal = { ...link, consortium, manifests, reason: 'owner-request', issuedAt: now() }
  const payload = encodeWithdrawal(withdrawal)
  return { id: digestOf(payload), envelope: seal(MEDIA_TYPES.withdrawal, payload, [identity]), withdrawal }
}

/**
 * The expert with the statistics that are published, and what the manifest says of them.
 * @throws InputError `not-found` where noise is asked for and there are no statistics.
 */
function withStatistics(
  { expert, result }: { expert: Expert; result: TrainResult },
  { name, statistics: choice, epsilonMilli }: PublishRequest,
): { expert: Expert; facts: { statisticsDocuments: number; statisticsEpsilonMilli: number } } {
  const { statistics } = expert
  const documents = result.statisticsDocuments
  if (choice === 'noised' && (statistics === undefined || documents === 0)) {
    throw new InputError(
      'not-found',
      `${name} has no router statistics to add noise to: its text has fewer than ${limit('statisticsDocuments')} documents, or it was trained elsewhere; publish it with --router-statistics none`,
    )
  }
  if (choice === 'none' || statistics === undefined || documents === 0) {
    return {
      expert: { ...expert, statistics: undefined },
      facts: { statisticsDocuments: 0, statisticsEpsilonMilli: 0 },
    }
  }
  const noised =
    choice === 'noised' ? noisedStatistics(statistics, documents, epsilonMilli / 1000) : statistics
  return {
    expert: { ...expert, statistics: noised },
    facts: {
      statisticsDocuments: documents,
      statisticsEpsilonMilli: choice === 'noised' ? epsilonMilli : 0,
    },
  }
}

/**
 * Judge one manifest: everything that needs no weights, fetch, everything that does. The verdict is
 * stored before anything is composed; what was refused leaves no file behind.
 */
export async function ingest(
  state: NodeState,
  envelope: Uint8Array,
  fetch: (manifest: Manifest) => Promise<void>,
  signal: AbortSignal,
): Promise<{ verdict: Verdict; tensors?: ReadonlyMap<string, ExpertTensor> }> {
  const context = state.acceptanceContext()
  const { verdict: first, manifest } = judgeManifest(envelope, context)
  if (first.outcome === 'refused' || manifest === undefined) return { verdict: first }
  await fetch(manifest)
  const [file] = manifest.files
  const weights = await state.blobs.readAll(file.sha256, file.size, signal)
  let tensors: ReadonlyMap<string, ExpertTensor> | undefined
  const verdict = await judgeWeights(first, manifest, weights, context, async (candidate) => {
    tensors = candidate
    const isOwn = manifest.publisher === state.identity.peerId
    const baseline = isOwn ? state.composed().map(({ expert }) => expert) : await state.baseline()
    return measure(state, baseline, expertOfTensors(state.publicModel.config, candidate), signal)
  })
  if (verdict.outcome === 'refused') await state.blobs.delete(file.sha256)
  return verdict.outcome === 'accepted' && tensors !== undefined ? { verdict, tensors } : { verdict }
}

/** Bits per byte with and without the candidate beside `baseline`, on text that we hold. */
async function measure(
  state: NodeState,
  baseline: readonly Expert[],
  candidate: Expert,
  signal: AbortSignal,
): Promise<Measurement> {
  const { config, params, tokenizer } = state.publicModel
  const E = baseline.length + 2
  const experts = [...baseline, candidate]
  const { router } = state
  const publicStatistics = await statisticsFor(state, router, experts)
  const gates = router === 'rows' ? undefined : gatesOf(publicStatistics, experts)
  const mixture = mixtureParams(config, params, zeroRows(config), experts)
  const evaluator = await createEvaluator(state.engine, config, mixture, {
    E,
    topK: Math.min(state.topK, E),
    endOfText: tokenizer.endOfText,
    gate: gates !== undefined,
  })
  try {
    const routed = (mask: Float32Array): SequenceRouting => ({ mask, gate: gates?.gate(mask) })
    const without = routed(new Float32Array(E).fill(LEFT_OUT, E - 1))
    const beside = routed(new Float32Array(E))
    const compare = async (documents: readonly { tokens: Int32Array; bytes: number }[]) => {
      const before = await evaluator.evaluate(documents, without, signal)
      const after = await evaluator.evaluate(documents, beside, signal)
      return {
        before: before.bitsPerByte,
        after: after.bitsPerByte,
        share: after.loadShares[E - 1] as number,
      }
    }
    const publicText = await state.publicText()
    const shared = await compare(publicText)
    const ownText = await state.ownText()
    const own = ownText.length > 0 ? await compare(ownText) : undefined
    return {
      public: { before: shared.before, after: shared.after },
      publicLoadShare: shared.share,
      ...(candidate.statistics === undefined
        ? {}
        : { publicGateShare: await statisticsShare(state, candidate.statistics, publicText) }),
      ...(own === undefined ? {} : { own: { before: own.before, after: own.after } }),
    }
  } finally {
    await evaluator.dispose()
  }
}

/** Nothing for what was not measured. */
function evalResult(set: EvalResult['set'], score: Score | undefined): EvalResult[] {
  if (score === undefined) return []
  return [{ set, metric: 'bits-per-byte', before: micro(score.before), after: micro(score.after) }]
}

function micro(bits: number): number {
  return Math.round(bits * MICRO)
}
