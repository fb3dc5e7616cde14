/**
 * What happens before our own node signs: the draft of a manifest, and the reasons not to sign now. Signs nothing.
 */

import type { Judging } from '../acceptance/package-states.ts'
import type { NodeScope } from '../consortium/key-history.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { removeLeftOver } from '../lib/files.ts'
import type { Derivation, PackedTraining, PackProgress } from '../owner/pack-training.ts'
import { describeExpert, type PublishRequest } from '../owner/release.ts'
import { encodeManifest, type Manifest } from '../packaging/manifest.ts'
import type { Parts } from './parts.ts'

/** A package that is ready to be judged and signed. */
interface Draft {
  readonly manifest: Manifest
  readonly packed: PackedTraining
}

/** How far a publication is: the stages of packing, then the checks that this node runs itself. */
export type PublishProgress = PackProgress | ({ readonly stage: 'judge' } & Judging)

export interface PublishOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: PublishProgress) => void
}

/** What was or would be published. */
export interface Publication {
  readonly manifest: Manifest
  /** Ids of the standing packages of this name, which the new one supersedes. */
  readonly replaces: readonly Digest[]
  /** Undefined if the expert is published as `train` released it. */
  readonly derivation: Derivation | undefined
}

/**
 * Load, derive, release, pack and describe.
 * @param into path of the new file; undefined only computes its reference
 * @throws as `publish`.
 */
export async function draftOf(
  parts: Parts,
  publish: PublishRequest,
  into: string | undefined,
  { signal = parts.signal, onProgress }: PublishOptions,
): Promise<Draft> {
  const { trainings, blobs, statements, membership } = parts
  const scratch = blobs.temporaryPath()
  let packed: PackedTraining
  try {
    packed = await trainings.pack({ publish, into, scratch }, signal, onProgress)
  } finally {
    await removeLeftOver(scratch) // A thread that died has left it.
  }
  const { statistics, result, shape, file, audit } = packed
  const link = await statements.next()
  const description = { shape, file: file.ref, audit }
  const context = manifestContext(parts)
  const manifest = describeExpert(context, publish, statistics, description, result, link, packed.tunedRuns)
  // Fail before minutes of measuring if the manifest cannot be encoded, or if the roster has ended and no member would
  // accept the package.
  encodeManifest(manifest)
  const { spending } = packed
  if (spending !== undefined) await trainings.budget.check(spending.texts, spending.planned, spending.instead)
  membership.checkRosterNotEnded()
  checkNotForked(parts)
  checkMaySign(parts, 'packages')
  if (publish.alone !== true) checkCaughtUp(parts)
  return { manifest, packed }
}

function manifestContext({ membership, now }: Parts): Parameters<typeof describeExpert>[0] {
  const { name, digest, tokenizerDigest } = membership.charter.publicModel
  return {
    consortium: membership.consortium,
    publicModel: { name, digest, tokenizerDigest },
    rosterVersion: membership.roster().version,
    now: now(),
  }
}

/**
 * @param superseded packages that the new one replaces
 * @throws InputError `not-acceptable`: other nodes would let the package wait.
 */
export function checkPlace({ standing, membership, policy }: Parts, superseded: readonly Digest[]): void {
  const { maxPackagesPerPublisher: most } = policy
  if (standing.count(membership.seat, superseded) < most) return
  throw new InputError(
    'not-acceptable',
    `${most} packages of this node stand, which is the most that others use; withdraw one first`,
  )
}

/** @throws InputError `not-acceptable`: nobody would use the package. */
function checkNotForked({ statements, membership }: Parts): void {
  if (!statements.isForked(membership.seat)) return
  throw new InputError(
    'not-acceptable',
    'the key of this node has signed two different histories, so no member uses its packages; ask a founder to revoke it, then join again with a new home',
  )
}

/**
 * @throws InputError `not-acceptable` if the key of this node may not sign for its seat now, so that every member would
 * refuse what it signs.
 */
export function checkMaySign({ membership, identity, now }: Parts, scope: NodeScope): void {
  const { seat, keys } = membership
  try {
    const seq = Number.POSITIVE_INFINITY
    keys.historyOf(seat).checkSigner({ seq, signer: identity.peerId, issuedAt: now(), scope })
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error
    const advice =
      error.code === 'expired'
        ? 'its node key has ended'
        : 'the institution has not authorised the key of this home for it'
    throw new InputError(
      'not-acceptable',
      `this node may not sign for ${membership.institutionOf(seat)}: ${advice}; stop the node and run ${ownCommand('key', 'delegate')}`,
      {},
      error,
    )
  }
}

/** Whether the key of this node may sign for its seat now: see `checkMaySign`. */
export function maySign(parts: Parts, scope: NodeScope): boolean {
  try {
    checkMaySign(parts, scope)
    return true
  } catch (error) {
    if (error instanceof InputError) return false
    throw error
  }
}

/** Whether the home was copied or restored, and none of the other members has been reached since. */
export function isBehind({ mark, membership }: Parts): boolean {
  const hasOthers = membership
    .roster()
    .members.some(({ peerId, revoked }) => peerId !== membership.seat && revoked === undefined)
  return mark.isCopied && hasOthers
}

/** Whether members may hold later statements of this node than its own home, so that nothing may be signed now. */
export function mustCatchUp(parts: Parts): boolean {
  const { statements, claims } = parts
  return isBehind(parts) || statements.isOwnBehind() || claims.isOpen(statements.ownSeq())
}

/**
 * Call this before anything is signed that follows what this node has signed before.
 * @throws InputError `behind` if the home was copied or set back and has not caught up with the members since.
 */
export function checkCaughtUp(parts: Parts): void {
  if (!mustCatchUp(parts)) return
  throw new InputError(
    'behind',
    'this home folder was copied or set back to an earlier state, as by restoring a backup, so other members may hold later statements of this node; start the node and try again once it has reached a member. If nothing was signed since the copy was made and no member can be reached, publish and withdraw sign all the same with --alone',
  )
}
