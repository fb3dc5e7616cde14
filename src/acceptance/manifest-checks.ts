/**
 * Checks of a manifest that run before its weights are fetched. Each throws an error whose code becomes the refusal.
 * They know nothing about weights and files.
 */
import { mayPublish } from '../consortium/roster.ts'
import { PolicyError, VerificationError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import type { AcceptanceContext, OpenedManifest } from './accept.ts'

/** @throws VerificationError `wrong-consortium`. */
export function checkConsortium({ manifest }: OpenedManifest, { consortium }: AcceptanceContext): void {
  if (manifest.consortium !== consortium) {
    throw new VerificationError('wrong-consortium', `made for consortium ${manifest.consortium}`)
  }
}

/** @throws VerificationError `not-a-member` unless the roster covers this statement of its publisher. */
export function checkSigner({ manifest }: OpenedManifest, { roster }: AcceptanceContext): void {
  if (!mayPublish(roster, manifest.publisher, manifest.seq)) {
    throw new VerificationError('not-a-member', `${manifest.publisher} is not a member`)
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

/** @throws VerificationError `withdrawn`. */
export function checkWithdrawal({ manifest, id }: OpenedManifest, { isWithdrawn }: AcceptanceContext): void {
  if (isWithdrawn(manifest.publisher, id)) {
    throw new VerificationError('withdrawn', 'its owner has withdrawn it')
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
