/**
 * Publishes an expert, or shows what publishing would release, with a summary for the owner: what leaves the machine, and
 * to whom. Does not know the steps of a publication.
 */
import type { Membership } from '../consortium/membership.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Derivation } from '../owner/pack-training.ts'
import { type PublishRequest, type ReleaseSummary, summarizeRelease } from '../owner/release.ts'
import type { Publication, PublishOptions } from '../pipeline/before-signing.ts'
import type { Parts } from '../pipeline/parts.ts'
import * as pipeline from '../pipeline.ts'

export interface Release {
  readonly summary: ReleaseSummary
  readonly derivation: Derivation | undefined
}

/** See `publish` of pipeline.ts. */
export async function publish(
  parts: Parts,
  request: PublishRequest,
  options?: PublishOptions,
): Promise<Release & { id: Digest }> {
  const published = await pipeline.publish(parts, request, options)
  return { id: published.id, ...releaseOf(parts.membership, published) }
}

/** What `publish` would release. Changes nothing. */
export async function previewPublication(
  parts: Parts,
  request: PublishRequest,
  options?: PublishOptions,
): Promise<Release> {
  return releaseOf(parts.membership, await pipeline.previewPublication(parts, request, options))
}

function releaseOf(membership: Membership, { manifest, replaces, derivation }: Publication): Release {
  const recipients = membership
    .roster()
    .members.filter(({ peerId, revoked }) => peerId !== membership.seat && revoked === undefined)
    .map(({ institution }) => institution)
  return { summary: summarizeRelease(manifest, recipients, replaces), derivation }
}
