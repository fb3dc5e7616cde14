/**
 * What happens before our own node signs: the draft of a manifest, and the reasons not to sign now. Signs nothing.
 */
import type { Digest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { describeExpert, type PublishRequest, type TrainedExpert } from '../owner/release.ts'
import { encodeManifest, type Manifest } from '../packaging/manifest.ts'
import type { PackedExpert } from '../packaging/package.ts'
import type { Parts } from './parts.ts'

/** A package that is ready to be judged and signed. */
interface Draft {
  readonly manifest: Manifest
  readonly packed: PackedExpert
}

/** What was or would be published. */
export interface Publication {
  readonly manifest: Manifest
  /** Ids of the standing packages of this name, which the new one supersedes. */
  readonly replaces: readonly Digest[]
}

/** Load, release, pack and describe. @throws as `publish`. */
export async function draftOf(
  parts: Parts,
  request: PublishRequest,
  derived: TrainedExpert | undefined,
): Promise<Draft> {
  const { packed, statistics, result } = await parts.trainings.pack(request, derived)
  const link = await parts.statements.next()
  const manifest = describeExpert(manifestContext(parts), request, statistics, packed, result, link)
  // Fail before minutes of measuring if the manifest cannot be encoded, or if the roster has ended and no member would
  // accept the package.
  encodeManifest(manifest)
  parts.membership.checkRosterNotEnded()
  checkNotForked(parts)
  if (request.alone !== true) checkCaughtUp(parts)
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
export function checkPlace({ standing, identity, policy }: Parts, superseded: readonly Digest[]): void {
  const { maxPackagesPerPublisher: most } = policy
  if (standing.count(identity.peerId, superseded) < most) return
  throw new InputError(
    'not-acceptable',
    `${most} packages of this node stand, which is the most that others use; withdraw one first`,
  )
}

/** @throws InputError `not-acceptable`: nobody would use the package. */
function checkNotForked({ statements, identity }: Parts): void {
  if (!statements.isForked(identity.peerId)) return
  throw new InputError(
    'not-acceptable',
    'the key of this node has signed two different histories, so no member uses its packages; ask a founder to revoke it, then join again with a new home',
  )
}

/** Whether the home was copied or restored, and none of the other members has been reached since. */
export function isBehind({ mark, membership, identity }: Parts): boolean {
  const hasOthers = membership
    .roster()
    .members.some(({ peerId, revoked }) => peerId !== identity.peerId && revoked === undefined)
  return mark.isCopied && hasOthers
}

/**
 * Call this before anything is signed that follows what this node has signed before.
 * @throws InputError `behind` if the home was copied or restored and no member has been reached since.
 */
export function checkCaughtUp(parts: Parts): void {
  if (!isBehind(parts)) return
  throw new InputError(
    'behind',
    'this home folder was copied or restored from a backup, so other members may hold later statements of this node; start the node and try again once it has reached a member. If nothing was signed since the copy was made and no member can be reached, publish and withdraw sign all the same with --alone',
  )
}
