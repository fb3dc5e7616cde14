/**
 * Checks of a manifest that run before its weights are fetched. Each throws an error whose code becomes the refusal.
 * They know nothing about weights and files.
 */
import { mayPublish } from '../consortium/roster.ts'
import { PolicyError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { DpStatement } from '../packaging/manifest-privacy.ts'
import { ACCOUNTANT, epsilonOf } from '../privacy/accountant.ts'
import type { AcceptanceContext, OpenedManifest } from './accept.ts'

const MICRO = 1e6
const NANO = 1e9

/** @throws VerificationError `wrong-consortium`. */
export function checkConsortium({ manifest }: OpenedManifest, { consortium }: AcceptanceContext): void {
  if (manifest.consortium !== consortium) {
    throw new VerificationError('wrong-consortium', `made for consortium ${manifest.consortium}`)
  }
}

/**
 * @throws VerificationError `not-a-member` unless the roster covers this statement of its publisher, and the publisher
 * lets it count.
 */
export function checkSigner({ manifest }: OpenedManifest, { roster, counts }: AcceptanceContext): void {
  const { publisher, seq } = manifest
  if (!mayPublish(roster, publisher, seq)) {
    throw new VerificationError('not-a-member', `${publisher} is not a member`)
  }
  if (!counts(publisher, seq)) {
    throw new VerificationError(
      'not-a-member',
      `statement ${seq} of ${publisher} does not count: its institution has replaced the key that signed it`,
    )
  }
}

/** @throws VerificationError `forked` for a publisher that signed two statements for one place in its log. */
export function checkChain({ manifest }: OpenedManifest, { isForked }: AcceptanceContext): void {
  if (isForked(manifest.publisher)) {
    throw new VerificationError('forked', `${manifest.publisher} has signed two statements for one place`)
  }
}

/** @throws VerificationError `not-yet-valid`, `expired`. */
export function checkValidity({ manifest }: OpenedManifest, { now }: Pick<AcceptanceContext, 'now'>): void {
  const skew = limit('clockSkew')
  if (manifest.issuedAt > now + skew) throw new VerificationError('not-yet-valid', 'issued in the future')
  if (manifest.expiresAt + skew < now) throw new VerificationError('expired', 'its consent has expired')
}

/** @throws VerificationError `withdrawn` for a withdrawn package, or one with the file of a withdrawn package. */
export function checkWithdrawal(
  { manifest, id }: OpenedManifest,
  { isWithdrawn, withdrawnFiles }: AcceptanceContext,
): void {
  if (isWithdrawn(manifest.publisher, id)) {
    throw new VerificationError('withdrawn', 'its owner has withdrawn it')
  }
  const file = manifest.files.find(({ sha256 }) => withdrawnFiles.has(sha256))
  if (file !== undefined) {
    throw new VerificationError('withdrawn', `its file ${file.sha256} is that of a withdrawn package`)
  }
}

/** @throws VerificationError `wrong-public-model`. */
export function checkPublicModel({ manifest }: OpenedManifest, { publicModel }: AcceptanceContext): void {
  const theirs = manifest.publicModel
  if (theirs.digest !== publicModel.digest || theirs.tokenizerDigest !== publicModel.tokenizerDigest) {
    throw new VerificationError(
      'wrong-public-model',
      `trained beside ${theirs.digest}, ours is ${publicModel.digest}`,
    )
  }
}

/** @throws PolicyError `tensor-shape` for dimensions that differ from those of the public model. */
export function checkShape(
  { manifest: { expert } }: OpenedManifest,
  { publicModel }: AcceptanceContext,
): void {
  const { shape } = publicModel
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
}

/** @throws PolicyError `file-role` for a package whose file is one of the public model. */
export function checkFileRole({ manifest }: OpenedManifest, { publicModel }: AcceptanceContext): void {
  for (const { sha256 } of manifest.files) {
    if (publicModel.files.has(sha256)) {
      throw new PolicyError('file-role', `names ${sha256}, which is a file of the public model`)
    }
  }
}

/** @throws PolicyError `statistics-documents` for router statistics that are averages over too few documents. */
export function checkStatisticsDocuments({ manifest }: OpenedManifest): void {
  const { statisticsTokens, statisticsDocuments: documents } = manifest.expert
  const least = limit('statisticsDocuments')
  if (statisticsTokens > 0 && documents < least) {
    throw new PolicyError(
      'statistics-documents',
      `its router statistics average over ${documents} documents, at least ${least} are needed to hide one`,
    )
  }
}

/**
 * Cannot know whether the publisher trained as it states.
 * @throws PolicyError `privacy-statement` for an epsilon that does not follow from its parameters, `privacy-required`
 * if this node asks for a lower one.
 */
export function checkPrivacy(
  { manifest }: OpenedManifest,
  { policy: { maxEpsilonMicro }, self }: Pick<AcceptanceContext, 'policy' | 'self'>,
): void {
  const { privacy } = manifest
  if (privacy?.mechanism === 'dp-sgd' && privacy.accountant === ACCOUNTANT) checkArithmetic(privacy)
  if (maxEpsilonMicro === undefined || manifest.publisher === self) return
  const most = `this node accepts only experts that state an epsilon of at most ${maxEpsilonMicro / MICRO}`
  if (privacy?.mechanism !== 'dp-sgd') {
    const found = privacy === undefined ? 'does not state any guarantee' : 'states that it has no guarantee'
    throw new PolicyError('privacy-required', `${most}, and this one ${found}`)
  }
  if (privacy.accountant !== ACCOUNTANT) {
    throw new PolicyError(
      'privacy-required',
      `${most}, and cannot compute that of the accountant "${privacy.accountant}"; it knows ${ACCOUNTANT}`,
    )
  }
  if (privacy.epsilonMicro > maxEpsilonMicro) {
    throw new PolicyError('privacy-required', `${most}, and this one states ${privacy.epsilonMicro / MICRO}`)
  }
}

/** @throws PolicyError `privacy-statement`. */
function checkArithmetic(statement: DpStatement): void {
  const { epsilonMicro, deltaInverse, truncationDeltaInverse, statisticsNoiseMicro } = statement
  const training = {
    noiseMultiplier: statement.noiseMicro / MICRO,
    sampleRate: statement.sampleRateNano / NANO,
    steps: statement.steps,
  }
  const statistics = { noiseMultiplier: statisticsNoiseMicro / MICRO, sampleRate: 1, steps: 1 }
  const truncation = truncationDeltaInverse === 0 ? 0 : 1 / truncationDeltaInverse
  const { epsilon } = epsilonOf(
    statisticsNoiseMicro === 0 ? [training] : [training, statistics],
    1 / deltaInverse - truncation,
  )
  // A publisher rounds to millionths.
  if (epsilon * MICRO <= epsilonMicro + 1) return
  throw new PolicyError(
    'privacy-statement',
    `states an epsilon of ${epsilonMicro / MICRO}, but its noise, sample rate and steps give ${epsilon.toPrecision(6)}`,
  )
}
